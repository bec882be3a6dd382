"""What the scores of found objects are worth, part by part, as plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from palitune.examples import Example, Prediction
from palitune.metrics.coco_matches import Kind, Matches
from palitune.metrics.confidence import (
    Reliability,
    calibration_error,
    judged_scores,
    precision_recall,
    reliability,
)
from palitune.metrics.detection_ap import DetectionAP, as_coco
from palitune.metrics.matching import Overlaps
from palitune.metrics.segmentation_iou import Segmentation, mask_overlaps
from palitune.report.run_folder import Answer, Judged, objects
from palitune.report.summary import written
from palitune.report.svg import TOP, Frame, Point, drawing, text

_KINDS: dict[str, Kind] = {"mask_AP50": "segm", "AP50": "bbox"}
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Plot:
    part: str
    title: str
    legend: tuple[tuple[str, str], ...]
    """(name of a line, what it comes to)."""
    svg: str
    note: str


def plots(part: str, examples: Sequence[Judged], names: Sequence[str]) -> list[Plot]:
    """Draw what the scores of a part's objects are worth; nothing where none has a score.

    `names` are those of the part's numbers: precision-recall is drawn where one of them is AP50.
    """
    found = [item for example in examples for item in objects(example.after.value)]
    if all(item.score is None for item in found):
        return []
    kinds = [kind for name, kind in _KINDS.items() if name in names]
    curves = [_precision_recall(part, examples, kinds[0])] if kinds else []
    return [*curves, _reliability(part, examples)]


def overlaps(example: Judged, answer: Answer) -> Overlaps | None:
    """The overlaps of predicted and reference masks; None where boxes are to be compared."""
    sides = objects(answer.value), objects(example.reference)
    if all(side and all(item.mask is not None for item in side) for side in sides):
        return mask_overlaps(*sides)
    return None


def _precision_recall(part: str, examples: Sequence[Judged], kind: Kind) -> Plot:
    lines = [("after" if examples[0].before else "precision", _curve(examples, kind, "after"))]
    if all(example.before for example in examples):
        lines.append(("before", _curve(examples, kind, "before")))
    frame = Frame((0, 1), (0, 1))
    drawn = [
        f'<path class="line-{index}" d="{frame.path(points)}"/>'
        for index, (_, points) in enumerate(lines)
        if not math.isnan(points[0][1])
    ]
    return Plot(
        part=part,
        title="precision over recall",
        legend=tuple(
            (name, written("AP50", sum(y for _, y in points) / len(points)))
            for name, points in lines
        ),
        svg=drawing(
            f"precision over recall of {part}", frame.axes(_TICKS, _TICKS) + "".join(drawn)
        ),
        note=f"{'Masks' if kind == 'segm' else 'Boxes'} at IoU .5, mean over classes, as COCO "
        "counts; the mean of the curve is AP50.",
    )


def _curve(examples: Sequence[Judged], kind: Kind, side: str) -> list[Point]:
    metric = Segmentation() if kind == "segm" else DetectionAP()
    for judged in examples:
        metric.update(*_as_evaluated(judged, judged.before if side == "before" else judged.after))
    matches = Matches(*as_coco(metric.judged), kind)
    return [(float(x), float(y)) for x, y in zip(*precision_recall(matches), strict=True)]


def _as_evaluated(judged: Judged, answer: Answer | None) -> tuple[Example, Prediction]:
    example = Example(
        id=judged.id,
        images=judged.images,
        size=judged.size,
        prefix=judged.prefix,
        suffixes=judged.suffixes,
        reference=judged.reference,
        place="",
    )
    value, written = (None, "") if answer is None else (answer.value, answer.text)
    return example, Prediction(id=judged.id, text=written, value=value)


def _reliability(part: str, examples: Sequence[Judged]) -> Plot:
    bins = reliability(
        [
            pair
            for example in examples
            for pair in judged_scores(
                objects(example.after.value),
                objects(example.reference),
                overlaps(example, example.after),
            )
        ]
    )
    return Plot(
        part=part,
        title="precision over score",
        legend=(("mean gap", written("gap", calibration_error(bins))),),
        svg=drawing(f"precision over score of {part}", _bars(bins)),
        note="Bars: the share of objects of that score that are right (IoU .5), and their number. "
        "On the dashed line a score is the chance to be right.",
    )


def _bars(bins: Sequence[Reliability]) -> str:
    frame = Frame((0, 1), (0, 1))
    parts = [frame.axes(_TICKS, _TICKS)]
    for one in bins:
        left, right = frame.x(one.low) + 1.5, frame.x(one.high) - 1.5
        if not one.count:
            continue
        top, bottom = frame.y(one.precision), frame.y(0)
        told = (
            f"{one.count} objects of score {one.low:g} to {one.high:g}: {one.precision:.3f} right, "
            f"mean score {one.score:.3f}"
        )
        parts.append(
            f'<rect class="bar" x="{left:g}" y="{top:g}" width="{right - left:g}" '
            f'height="{max(bottom - top, 1):g}"><title>{escape(told)}</title></rect>'
        )
        parts.append(text((left + right) / 2, max(top - 4, TOP + 10), _count(one.count)))
    parts.append(f'<path class="ideal" d="{frame.path([(0, 0), (1, 1)])}"/>')
    return "".join(parts)


def _count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
