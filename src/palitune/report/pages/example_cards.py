"""Cards of evaluated examples: images, texts with marked differences, scores."""

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from palitune.metrics.objects.confusion_matrix import LabelPair
from palitune.report.images.example_images import captioned_predictions
from palitune.report.images.inline import InlineImage
from palitune.report.metrics_table import format_number
from palitune.report.pages.cards import (
    CardText,
    DiffSegments,
    ExampleCard,
    format_instances,
    plain_text,
)
from palitune.report.pages.example_selection import (
    SelectedExample,
    main_score,
    normalized_score,
    score_gain,
)
from palitune.report.predictions_csv import format_confidences
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

# Longer texts are not compared: the time grows with the square of the length.
_MAX_DIFF_LENGTH = 1500
# Below this similarity almost everything would be marked.
_MIN_SIMILARITY = 0.4
# Longer texts are cut to keep the page small; `predictions.jsonl` has all of them.
_MAX_TEXT_LENGTH, _MAX_SMALL_TEXT_LENGTH = 3000, 300


def build_example_card(
    selected: SelectedExample,
    images: tuple[InlineImage, ...] = (),
    confusion_pairs: Sequence[LabelPair] = (),
) -> ExampleCard:
    """Build the card of an evaluated example."""
    example = selected.example
    score = main_score(example.after)
    change, improved = _format_score_change(example)
    small = not selected.gallery_positions
    max_length = _MAX_SMALL_TEXT_LENGTH if small else _MAX_TEXT_LENGTH
    build_texts = _malformed_texts if example.draws_boxes else _reference_and_prediction_texts
    return ExampleCard(
        id=example.id,
        part=example.part,
        prefix=_truncate(example.prefix, max_length),
        grade=grade(example.after),
        badge="no score" if score is None else f"{score[0]} {format_number(*score)}",
        normalized_score=normalized_score(example.after),
        score_gain=score_gain(example),
        change=change,
        improved=improved,
        file_name=", ".join(dict.fromkeys(Path(path).name for path in example.images[:4])),
        small=small,
        images=images,
        texts=build_texts(example, max_length),
        details=tuple(
            (caption, _truncate(text, max_length)) for caption, text in _detail_texts(example)
        ),
        labels=tuple(sorted({label for pair in confusion_pairs for label in pair})),
        gallery_positions=selected.gallery_positions,
        confusion_pairs=tuple(sorted(set(confusion_pairs))),
    )


def grade(prediction: ScoredPrediction) -> str:
    """Return the grade of a prediction: malformed, full, partial, zero or unscored."""
    if prediction.value is None:
        return "malformed"
    score = normalized_score(prediction)
    if math.isnan(score):
        return "unscored"
    return "full" if score >= 1 else "zero" if score <= 0 else "partial"


def _format_score_change(example: EvaluatedExample) -> tuple[str, bool | None]:
    """Return the change of the main score as text, and whether it improved."""
    score, gain = main_score(example.after), score_gain(example)
    if score is None or example.before is None or math.isnan(gain) or gain == 0:
        return "", None
    name, value = score
    return format_number(name, value - example.before.scores[name], "+"), gain > 0


def diff_segments(text: str, other: str) -> tuple[DiffSegments, DiffSegments]:
    """Split two texts into segments and mark the differences; unlike texts stay whole."""
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
    """Mark newlines and tabs, which a page does not show."""
    return text.replace("\n", "⏎\n").replace("\t", "⇥\t").removesuffix("\n")


def _truncate(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    return f"{text[:max_length]}… [{len(text) - max_length} more characters in predictions.jsonl]"


def _malformed_texts(example: EvaluatedExample, max_length: int) -> tuple[CardText, ...]:
    return tuple(
        plain_text(caption, _truncate(prediction.text, max_length), grade="malformed")
        for caption, prediction in captioned_predictions(example)
        if prediction.value is None
    )


def _reference_and_prediction_texts(
    example: EvaluatedExample, max_length: int
) -> tuple[CardText, ...]:
    references = [
        _truncate(text, max_length) for text in example.reference if isinstance(text, str)
    ]
    after = example.after.value
    if len(references) == 1 and isinstance(after, str) and after:
        segments = (diff_segments(references[0], _truncate(after, max_length))[0],)
        first = CardText("reference", segments)
    else:
        first = plain_text("reference" if len(references) == 1 else "references", *references)
    predictions = (
        CardText(
            caption,
            (_diff_to_nearest_reference(prediction, references, max_length),),
            "malformed" if prediction.value is None else "",
        )
        for caption, prediction in captioned_predictions(example)
    )
    return (first, *predictions)


def _diff_to_nearest_reference(
    prediction: ScoredPrediction, references: Sequence[str], max_length: int
) -> DiffSegments:
    """Mark the differences to the most similar reference; a malformed text stays raw."""
    if not isinstance(prediction.value, str):
        return ((_truncate(prediction.text, max_length), False),)
    value = _truncate(prediction.value, max_length)
    if value in references or not value or not references:
        return ((value, False),) if value else ()
    nearest = max(references, key=lambda text: SequenceMatcher(None, text, value).quick_ratio())
    return diff_segments(value, nearest)[0]


def _detail_texts(example: EvaluatedExample) -> list[tuple[str, str]]:
    """Return input and target texts, generated text, objects and scores; no empty ones."""
    targets = "\n".join(show_whitespace(suffix) for suffix in example.suffixes)
    details = [
        ("Input text (after the image tokens and <bos>)", show_whitespace(f"{example.prefix}\n")),
        ("Target text" if len(example.suffixes) == 1 else "Target text, one of", targets),
        ("Reference objects", format_instances(get_instances(example.reference))),
    ]
    for caption, prediction in captioned_predictions(example):
        scores = [f"{name} {format_number(name, s)}" for name, s in prediction.scores.items()]
        side = caption.capitalize()
        details += [
            (f"{side}: generated text", show_whitespace(prediction.text)),
            (f"{side}: objects", format_instances(get_instances(prediction.value))),
            (f"{side}: repaired", "; ".join(prediction.repairs)),
            (f"{side}: confidence of fields", format_confidences(prediction.field_confidences)),
            (f"{side}: scores", ", ".join(scores)),
        ]
    return [(caption, text) for caption, text in details if text]
