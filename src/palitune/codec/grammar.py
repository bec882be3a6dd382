"""What a well-formed answer of objects is, as data: `<loc>x4[<seg>x16] label( ; ...)*`.

A task defines it for a prompt (`Task.grammar`), and `palitune.models.generation.constraints` keeps
generation within it.
Whatever keeps to a grammar is read back without a fault: boxes are upright and have an extent,
labels are among those asked for, masks are whole.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectGrammar:
    """The answers to one prompt: objects, joined by ` ; `."""

    labels: tuple[str, ...] | None
    """What an object may be called, "" where its box stands alone; None: any words."""
    with_masks: bool = False
    """Whether each box is followed by the `<seg>` tokens of its mask."""
    max_objects: int | None = None
    """Objects in one answer; None: as many as the tokens allow."""
    allow_empty: bool = True
    """Whether an answer may name no object at all."""
    min_objects: int = 0
    """Objects that an answer has before it ends, as far as the tokens allow."""

    def __post_init__(self) -> None:
        if self.labels == ():
            raise ValueError("a grammar without labels allows no object; give one, or None")
        if self.max_objects is not None and self.min_objects > self.max_objects:
            raise ValueError(
                f"a grammar has at least {self.min_objects} and at most {self.max_objects} objects"
            )
