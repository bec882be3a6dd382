"""Grammar of answers that list objects, as data: `<loc>x4[<seg>x16] label( ; ...)*`.

A task defines it for a prompt (`Task.grammar`) and `palitune.models.generation.constraints` applies
it during generation. Every answer that follows a grammar can be parsed: boxes are upright and have
an extent, labels are among the requested ones, and masks have all their tokens.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectGrammar:
    """Allowed answers to one prompt: objects, joined by ` ; `."""

    labels: tuple[str, ...] | None
    """Allowed labels; "" for a box without a label, None for free text."""
    with_masks: bool = False
    """Whether each box is followed by the `<seg>` tokens of its mask."""
    max_objects: int | None = None
    """Most objects in one answer; None: limited by the number of tokens only."""
    allow_empty: bool = True
    """Whether an answer without objects is allowed."""
    min_objects: int = 0
    """Fewest objects in one answer, as far as the number of tokens allows."""

    def __post_init__(self) -> None:
        if self.labels == ():
            raise ValueError("a grammar without labels allows no object; give one, or None")
        if self.max_objects is not None and self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects must be at most max_objects={self.max_objects}, "
                f"got {self.min_objects}."
            )
