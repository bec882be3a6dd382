"""Plots of detection scores: precision-recall curve, calibration, and F1 over the threshold."""

import math
from collections.abc import Sequence
from html import escape

from palitune.metrics.objects.calibration import (
    Reliability,
    calibration_error,
    precision_recall_curve,
    reliability_diagram,
    scored_detections,
)
from palitune.metrics.objects.coco_matching import CocoMatches, IouType
from palitune.metrics.objects.detection import CocoMetric, DetectionAP, to_coco
from palitune.metrics.objects.matching import Overlaps
from palitune.metrics.objects.segmentation import Segmentation, mask_overlaps
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import (
    MARGIN_TOP,
    SHARE_TICKS,
    PlotArea,
    Point,
    points_to_csv,
    svg_element,
    svg_text,
)
from palitune.report.plots.threshold_plots import ScorePlot, draw_threshold_plots
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction, get_instances

_IOU_TYPES: dict[str, IouType] = {"mask_AP50": "segm", "AP50": "bbox"}


def draw_score_plots(
    part: str, examples: Sequence[EvaluatedExample], names: Sequence[str]
) -> list[ScorePlot]:
    """Draw precision-recall curve and calibration of a part; empty if no object has a score.

    Args:
        part: Name of the part.
        examples: Its evaluated examples.
        names: Names of its metrics; the precision-recall curve requires AP50.
    """
    predicted = [item for example in examples for item in get_instances(example.after.value)]
    if all(item.score is None for item in predicted):
        return []
    kinds = [kind for name, kind in _IOU_TYPES.items() if name in names]
    plots = [_reliability_plot(part, examples)]
    if kinds:
        after = _object_metric(examples, kinds[0], "after")
        plots.insert(0, _precision_recall_plot(part, examples, after))
        plots += draw_threshold_plots(part, after.examples, kinds[0])
    return plots


def instance_overlaps(example: EvaluatedExample, prediction: ScoredPrediction) -> Overlaps | None:
    """Return the IoU of predicted and reference masks; None if boxes are to be compared."""
    sides = get_instances(prediction.value), get_instances(example.reference)
    if all(side and all(item.mask is not None for item in side) for side in sides):
        return mask_overlaps(*sides)
    return None


def _precision_recall_plot(
    part: str, examples: Sequence[EvaluatedExample], after: CocoMetric
) -> ScorePlot:
    kind = after.iou_type
    name = "after" if examples[0].before else "precision"
    lines = [(name, _precision_recall_points(after))]
    if all(example.before for example in examples):
        before = _object_metric(examples, kind, "before")
        lines.append(("before", _precision_recall_points(before)))
    area = PlotArea((0, 1), (0, 1))
    paths = [
        f'<path class="line-{index}" d="{area.to_path(points)}"/>'
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
            f"precision over recall of {part}",
            area.draw_axes(SHARE_TICKS, SHARE_TICKS, "recall", "precision") + "".join(paths),
            x_range=(0, 1),
        ),
        note=f"{'Masks' if kind == 'segm' else 'Boxes'} at IoU .5, mean over classes as in COCO; "
        "AP50 is the mean of the curve.",
        csv=points_to_csv("recall", dict(lines)),
    )


def _object_metric(examples: Sequence[EvaluatedExample], kind: IouType, side: str) -> CocoMetric:
    """Return the metric of boxes or masks, updated with all examples."""
    metric = Segmentation() if kind == "segm" else DetectionAP()
    for example in examples:
        metric.update(*example.to_records(example.before if side == "before" else example.after))
    return metric


def _precision_recall_points(metric: CocoMetric) -> list[Point]:
    matches = CocoMatches(*to_coco(metric.examples), metric.iou_type)
    return [(float(x), float(y)) for x, y in zip(*precision_recall_curve(matches), strict=True)]


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
        legend=(("calibration error", format_number("gap", calibration_error(bins))),),
        svg=svg_element(f"precision over score of {part}", _draw_reliability(bins), x_range=(0, 1)),
        note="Bars: precision of the objects with this score (IoU .5), and their number. Perfectly "
        "calibrated scores lie on the dashed line.",
        csv=points_to_csv(
            "score", {"precision": [(b.score, b.precision) for b in bins if b.count]}
        ),
    )


def _draw_reliability(bins: Sequence[Reliability]) -> str:
    area = PlotArea((0, 1), (0, 1))
    parts = [area.draw_axes(SHARE_TICKS, SHARE_TICKS, "score", "precision")]
    for score_bin in (score_bin for score_bin in bins if score_bin.count):
        left, right = area.x(score_bin.low) + 1.5, area.x(score_bin.high) - 1.5
        top, bottom = area.y(score_bin.precision), area.y(0)
        tooltip = (
            f"{score_bin.count} objects with score {score_bin.low:g} to {score_bin.high:g}: "
            f"precision {score_bin.precision:.3f}, mean score {score_bin.score:.3f}"
        )
        parts.append(
            f'<rect class="bar" x="{left:g}" y="{top:g}" width="{right - left:g}" '
            f'height="{max(bottom - top, 1):g}"><title>{escape(tooltip)}</title></rect>'
        )
        count = (
            str(score_bin.count) if score_bin.count < 10_000 else f"{score_bin.count / 1000:.0f}k"
        )
        parts.append(svg_text((left + right) / 2, max(top - 4, MARGIN_TOP + 10), count))
    parts.append(f'<path class="ideal" d="{area.to_path([(0, 0), (1, 1)])}"/>')
    return "".join(parts)
