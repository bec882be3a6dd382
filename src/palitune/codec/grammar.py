"""What a well-formed answer of objects is, as data: `<loc>x4[<seg>x16] label( ; ...)*`.

A task tells it for a prompt (`Task.grammar`); `palitune.models.grammar` keeps generation within it.
Whatever keeps to a grammar is read back without a fault: boxes are upright and have an extent,
labels are among those asked for, masks are whole.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grammar:
    """The answers to one prompt: objects, joined by ` ; `."""

    labels: tuple[str, ...] | None
    """What an object may be called, "" where its box stands alone; None: any words."""
    masks: bool = False
    """Whether each box is followed by the `<seg>` tokens of its mask."""
    most: int | None = None
    """Objects in one answer; None: as many as the tokens allow."""
    empty: bool = True
    """Whether an answer may name no object at all."""
    least: int = 0
    """Objects that an answer has before it ends, as far as the tokens allow."""

    def __post_init__(self) -> None:
        if self.labels == ():
            raise ValueError("a grammar without labels allows no object; give one, or None")
        if self.most is not None and self.least > self.most:
            raise ValueError(f"a grammar has at least {self.least} and at most {self.most} objects")
