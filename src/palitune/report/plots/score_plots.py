"""What the scores of found objects are worth, part by part, as plots."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from palitune.metrics.objects.calibration import (
    Reliability,
    calibration_error,
    precision_recall_curve,
    reliability_diagram,
    scored_detections,
)
from palitune.metrics.objects.coco_matching import CocoMatches, IouType
from palitune.metrics.objects.detection import DetectionAP, to_coco
from palitune.metrics.objects.matching import Overlaps
from palitune.metrics.objects.segmentation import Segmentation, mask_overlaps
from palitune.records import Example, Prediction
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import MARGIN_TOP, PlotArea, Point, svg_element, svg_text
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

_IOU_TYPES: dict[str, IouType] = {"mask_AP50": "segm", "AP50": "bbox"}
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class ScorePlot:
    part: str
    title: str
    legend: tuple[tuple[str, str], ...]
    """(name of a line, what it comes to)."""
    svg: str
    note: str


def draw_score_plots(
    part: str, examples: Sequence[EvaluatedExample], names: Sequence[str]
) -> list[ScorePlot]:
    """Draw what the scores of a part's objects are worth; nothing where none has a score.

    `names` are those of the part's numbers: precision-recall is drawn where one of them is AP50.
    """
    found = [item for example in examples for item in get_instances(example.after.value)]
    if all(item.score is None for item in found):
        return []
    kinds = [kind for name, kind in _IOU_TYPES.items() if name in names]
    curves = [_precision_recall_plot(part, examples, kinds[0])] if kinds else []
    return [*curves, _reliability_plot(part, examples)]


def instance_overlaps(example: EvaluatedExample, prediction: ScoredPrediction) -> Overlaps | None:
    """The overlaps of predicted and reference masks; None where boxes are to be compared."""
    sides = get_instances(prediction.value), get_instances(example.reference)
    if all(side and all(item.mask is not None for item in side) for side in sides):
        return mask_overlaps(*sides)
    return None


def _precision_recall_plot(
    part: str, examples: Sequence[EvaluatedExample], kind: IouType
) -> ScorePlot:
    lines = [
        (
            "after" if examples[0].before else "precision",
            _precision_recall_points(examples, kind, "after"),
        )
    ]
    if all(example.before for example in examples):
        lines.append(("before", _precision_recall_points(examples, kind, "before")))
    frame = PlotArea((0, 1), (0, 1))
    drawn = [
        f'<path class="line-{index}" d="{frame.to_path(points)}"/>'
        for index, (_, points) in enumerate(lines)
        if not math.isnan(points[0][1])
    ]
    return ScorePlot(
        part=part,
        title="precision over recall",
        legend=tuple(
            (name, format_number("AP50", sum(y for _, y in points) / len(points)))
            for name, points in lines
        ),
        svg=svg_element(
            f"precision over recall of {part}", frame.draw_axes(_TICKS, _TICKS) + "".join(drawn)
        ),
        note=f"{'Masks' if kind == 'segm' else 'Boxes'} at IoU .5, mean over classes, as COCO "
        "counts; the mean of the curve is AP50.",
    )


def _precision_recall_points(
    examples: Sequence[EvaluatedExample], kind: IouType, side: str
) -> list[Point]:
    metric = Segmentation() if kind == "segm" else DetectionAP()
    for judged in examples:
        metric.update(
            *_to_example_and_prediction(judged, judged.before if side == "before" else judged.after)
        )
    matches = CocoMatches(*to_coco(metric.examples), kind)
    return [(float(x), float(y)) for x, y in zip(*precision_recall_curve(matches), strict=True)]


def _to_example_and_prediction(
    evaluated: EvaluatedExample, prediction: ScoredPrediction | None
) -> tuple[Example, Prediction]:
    example = Example(
        id=evaluated.id,
        images=evaluated.images,
        size=evaluated.size,
        prefix=evaluated.prefix,
        suffixes=evaluated.suffixes,
        reference=evaluated.reference,
        location="",
    )
    value, written = (None, "") if prediction is None else (prediction.value, prediction.text)
    return example, Prediction(id=evaluated.id, text=written, value=value)


def _reliability_plot(part: str, examples: Sequence[EvaluatedExample]) -> ScorePlot:
    bins = reliability_diagram(
        [
            pair
            for example in examples
            for pair in scored_detections(
                get_instances(example.after.value),
                get_instances(example.reference),
                instance_overlaps(example, example.after),
            )
        ]
    )
    return ScorePlot(
        part=part,
        title="precision over score",
        legend=(("mean gap", format_number("gap", calibration_error(bins))),),
        svg=svg_element(f"precision over score of {part}", _draw_reliability(bins)),
        note="Bars: the share of objects of that score that are right (IoU .5), and their number. "
        "On the dashed line a score is the chance to be right.",
    )


def _draw_reliability(bins: Sequence[Reliability]) -> str:
    frame = PlotArea((0, 1), (0, 1))
    parts = [frame.draw_axes(_TICKS, _TICKS)]
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
        parts.append(
            svg_text((left + right) / 2, max(top - 4, MARGIN_TOP + 10), _format_count(one.count))
        )
    parts.append(f'<path class="ideal" d="{frame.to_path([(0, 0), (1, 1)])}"/>')
    return "".join(parts)


def _format_count(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
