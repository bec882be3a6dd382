"""One judged example as the page shows it: pictures, texts with their differences, score."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from palitune.metrics.objects.confusion_matrix import LabelPair
from palitune.records import Instance
from palitune.report.images.example_images import ExampleImage, captioned_predictions
from palitune.report.metrics_table import format_number
from palitune.report.pages import example_selection
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

DiffSegments = tuple[tuple[str, bool], ...]
"""Text in pieces; True where a piece differs from what it is compared with."""

# Longer texts are shown without marks: finding them takes time that grows with the square.
_MAX_DIFF_LENGTH = 1500
# Below this similarity marks would cover nearly everything and say nothing.
_MIN_SIMILARITY = 0.4
# Longer texts are cut: the page stays small, `predictions.jsonl` has them whole.
_MAX_TEXT_LENGTH, _MAX_SMALL_TEXT_LENGTH = 3000, 300


@dataclass(frozen=True)
class CardText:
    """One text of a card: a reference, or what a model wrote."""

    caption: str
    segments: tuple[DiffSegments, ...]
    malformed: bool = False


@dataclass(frozen=True)
class ExampleCard:
    id: str
    part: str
    prefix: str
    grade: str
    """malformed | full | partial | zero | unscored."""
    score: str
    normalized_score: float
    """The score turned so that more is better and 1 is without fault; NaN without one."""
    change: str
    """Change of the main score from before to after; empty where unknown."""
    improved: bool | None
    score_gain: float
    """How much better the main score became; NaN where unknown."""
    wide: bool
    """Whether pictures with boxes stand side by side."""
    small: bool
    """Whether it stands in no gallery and shows a thumbnail only."""
    images: tuple[ExampleImage, ...]
    texts: tuple[CardText, ...]
    details: tuple[tuple[str, str], ...]
    """(caption, text) of what is folded away: exact texts, objects, all scores."""
    gallery_positions: str
    """JSON of its place in each gallery."""
    confusion_pairs: str
    """JSON of the [reference, prediction] classes that it adds to the confusions."""


def build_example_card(
    selected: example_selection.SelectedExample,
    images: tuple[ExampleImage, ...] = (),
    confusion_pairs: Sequence[LabelPair] = (),
) -> ExampleCard:
    """Write everything that the page says of one example."""
    example = selected.example
    found = example_selection.main_score(example.after)
    change, improved = _format_score_change(example)
    small = not selected.gallery_positions
    longest = _MAX_SMALL_TEXT_LENGTH if small else _MAX_TEXT_LENGTH
    return ExampleCard(
        id=example.id,
        part=example.part,
        prefix=_truncate(example.prefix, longest),
        grade=grade(example.after),
        score="no score" if found is None else f"{found[0]} {format_number(*found)}",
        normalized_score=example_selection.normalized_score(example.after),
        change=change,
        improved=improved,
        score_gain=example_selection.score_gain(example),
        wide=example.draws_boxes and not small,
        small=small,
        images=images,
        texts=_malformed_texts(example, longest)
        if example.draws_boxes
        else _reference_and_prediction_texts(example, longest),
        details=tuple(
            (caption, _truncate(text, longest)) for caption, text in _detail_texts(example)
        ),
        gallery_positions=json.dumps(selected.gallery_positions),
        confusion_pairs=json.dumps(sorted(set(confusion_pairs)), ensure_ascii=False),
    )


def grade(prediction: ScoredPrediction) -> str:
    """Sort an answer into malformed, full, partial, zero or unscored."""
    if prediction.value is None:
        return "malformed"
    good = example_selection.normalized_score(prediction)
    if math.isnan(good):
        return "unscored"
    return "full" if good >= 1 else "zero" if good <= 0 else "partial"


def _format_score_change(example: EvaluatedExample) -> tuple[str, bool | None]:
    """The change of the main score, as it is written, and whether it is one for the better."""
    found, better = (
        example_selection.main_score(example.after),
        example_selection.score_gain(example),
    )
    if found is None or example.before is None or math.isnan(better) or better == 0:
        return "", None
    name, score = found
    return format_number(name, score - example.before.scores[name], "+"), better > 0


def diff_segments(text: str, other: str) -> tuple[DiffSegments, DiffSegments]:
    """Cut two texts into pieces, marking in each what the other lacks; none if too unlike."""
    matcher = SequenceMatcher(None, text, other, autojunk=False)
    if max(len(text), len(other)) > _MAX_DIFF_LENGTH or matcher.ratio() < _MIN_SIMILARITY:
        return ((text, False),), ((other, False),)
    first: list[tuple[str, bool]] = []
    second: list[tuple[str, bool]] = []
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        first += [(text[a0:a1], kind != "equal")] * (a1 > a0)
        second += [(other[b0:b1], kind != "equal")] * (b1 > b0)
    return tuple(first), tuple(second)


def show_whitespace(text: str) -> str:
    """Show where lines end and tabs stand, which a page would not."""
    return text.replace("\n", "⏎\n").replace("\t", "⇥\t").removesuffix("\n")


def _truncate(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    return f"{text[:max_length]}… [{len(text) - max_length} characters more in predictions.jsonl]"


def _malformed_texts(example: EvaluatedExample, max_length: int) -> tuple[CardText, ...]:
    return tuple(
        CardText(caption, (((_truncate(answer.text, max_length), False),),), malformed=True)
        for caption, answer in captioned_predictions(example)
        if answer.value is None
    )


def _reference_and_prediction_texts(
    example: EvaluatedExample, max_length: int
) -> tuple[CardText, ...]:
    references = tuple(
        _truncate(text, max_length) for text in example.reference if isinstance(text, str)
    )
    after = example.after.value
    plain: tuple[DiffSegments, ...] = tuple(((reference, False),) for reference in references)
    if len(references) == 1 and isinstance(after, str) and after:
        plain = (diff_segments(references[0], _truncate(after, max_length))[0],)
    lines = [CardText("reference" if len(references) == 1 else "references", plain)]
    for caption, answer in captioned_predictions(example):
        marked = _diff_to_nearest_reference(answer, references, max_length)
        lines.append(CardText(caption, (marked,), answer.value is None))
    return tuple(lines)


def _diff_to_nearest_reference(
    prediction: ScoredPrediction, references: tuple[str, ...], max_length: int
) -> DiffSegments:
    """The answer with what the nearest reference lacks; the raw text where it is malformed."""
    if not isinstance(prediction.value, str):
        return ((_truncate(prediction.text, max_length), False),)
    value = _truncate(prediction.value, max_length)
    if value in references or not value or not references:
        return ((value, False),) if value else ()
    nearest = max(references, key=lambda r: SequenceMatcher(None, r, value).quick_ratio())
    return diff_segments(value, nearest)[0]


def _detail_texts(example: EvaluatedExample) -> list[tuple[str, str]]:
    """Exact texts in and out of the model, objects and scores; empty ones are left out."""
    asked = "to write" if len(example.suffixes) == 1 else "to write, one of"
    details = [
        ("into the model, after image and <bos>", show_whitespace(f"{example.prefix}\n")),
        (asked, "\n".join(show_whitespace(suffix) for suffix in example.suffixes)),
        ("reference, objects", _format_instances(get_instances(example.reference))),
    ]
    for caption, answer in captioned_predictions(example):
        scores = [f"{name} {format_number(name, score)}" for name, score in answer.scores.items()]
        details += [
            (f"{caption}, raw text", show_whitespace(answer.text)),
            (f"{caption}, objects", _format_instances(get_instances(answer.value))),
            (f"{caption}, scores", ", ".join(scores)),
        ]
    return [(caption, text) for caption, text in details if text]


def _format_instances(instances: tuple[Instance, ...]) -> str:
    return "\n".join(
        f"{i.label}  [{', '.join(f'{side:.0f}' for side in i.box)}]"
        + ("" if i.score is None else f"  {i.score:.2f}")
        for i in instances
    )
