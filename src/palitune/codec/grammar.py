"""Grammar of answers that list objects, as data: `<loc>x4[<seg>x16] label( ; ...)*`.

A task defines it for a prompt (`Task.grammar`) and `palitune.models.generation.constraints` applies
it during generation. Every answer that follows a grammar can be parsed: boxes have
ordered corners and a positive area, labels are among those of the prompt, and masks are complete.
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
    """Maximum number of objects in one answer; None: limited by the number of tokens only."""
    allow_empty: bool = True
    """Whether an answer without objects is allowed."""
    min_objects: int = 0
    """Minimum number of objects in one answer, if the number of tokens allows it."""

    def __post_init__(self) -> None:
        if self.labels == ():
            raise ValueError("labels must not be empty. Use None for free text.")
        if self.max_objects is not None and self.min_objects > self.max_objects:
            raise ValueError(
                f"min_objects must be at most max_objects={self.max_objects}, "
                f"got {self.min_objects}."
            )
