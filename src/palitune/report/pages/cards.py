"""Cards of a page: one example each, with images, texts and the values that the filter reads."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from palitune.metrics.objects.confusion_matrix import LabelPair
from palitune.records import Instance
from palitune.report.images.inline import InlineImage

DiffSegments = tuple[tuple[str, bool], ...]
"""A text in segments; True for one that differs from the text it is compared with."""


@dataclass(frozen=True)
class CardText:
    """A text that is always visible: a reference or a generated text."""

    caption: str
    segments: tuple[DiffSegments, ...]
    """One entry per text, each in segments; an empty entry is an empty text."""
    grade: str = ""
    """full | partial | zero | malformed: shows caption or grade as a colored mark."""
    note: str = ""
    """Small text after the segments."""


@dataclass(frozen=True, kw_only=True)
class ExampleCard:
    id: str
    part: str = ""
    """Value of the first filter: part, split or status."""
    grade: str = ""
    """Color of the badge: full | partial | zero | malformed | unscored; empty: neutral."""
    badge: str = ""
    """Short text next to the id."""
    prefix: str = ""
    images: tuple[InlineImage, ...] = ()
    texts: tuple[CardText, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    """(caption, text) of what is folded."""
    labels: tuple[str, ...] = ()
    """Labels for the filter."""
    file_name: str = ""
    """Names of the image files."""
    small: bool = False
    """Whether the card is in no gallery and shows a thumbnail."""
    normalized_score: float = math.nan
    """Main score, with 1 for a perfect example; NaN without a score."""
    score_gain: float = math.nan
    """Change of the normalized score; NaN if unknown."""
    change: str = ""
    """Change of the main score by training; empty if unknown."""
    improved: bool | None = None
    gallery_positions: dict[str, int] = field(default_factory=dict)
    """Position in each gallery, by the key of the gallery."""
    confusion_pairs: tuple[LabelPair, ...] = ()
    """(reference, prediction) classes that the example adds to the confusion matrix."""


def plain_text(caption: str, *texts: str, grade: str = "", note: str = "") -> CardText:
    """Return a text without marked differences."""
    segments = tuple(((text, False),) if text else () for text in texts)
    return CardText(caption, segments, grade, note)


def format_instances(instances: Sequence[Instance]) -> str:
    """Format objects as lines of label, box and score."""
    return "\n".join(
        f"{i.label}  [{', '.join(f'{side:.0f}' for side in i.box)}]"
        + ("" if i.score is None else f"  {i.score:.2f}")
        for i in instances
    )
