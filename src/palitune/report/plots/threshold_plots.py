"""Plots of precision, recall and F1 over the lowest score that is kept."""

from collections.abc import Sequence
from dataclasses import dataclass

from palitune.metrics.base import FloatArray
from palitune.metrics.objects.coco_matching import IouType
from palitune.metrics.objects.detection import CocoExample
from palitune.metrics.objects.quality.score_thresholds import (
    OperatingPoint,
    ScoredMatches,
    best_f1,
    pool_classes,
    score_curve,
    scored_matches,
)
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import SHARE_TICKS, PlotArea, Point, points_to_csv, svg_element

MAX_CLASSES = 8
"""Maximum number of classes with a plot of their own, those with the most reference objects."""


@dataclass(frozen=True)
class ScorePlot:
    part: str
    title: str
    legend: tuple[tuple[str, str], ...]
    """(name, value) of each line."""
    svg: str
    note: str
    csv: str
    """The drawn points."""


def draw_threshold_plots(
    part: str, examples: Sequence[CocoExample], kind: IouType
) -> list[ScorePlot]:
    """Draw the curves of all classes together, and of the classes with the most objects.

    Nothing is drawn without reference objects.

    Args:
        part: Name of the part.
        examples: Its examples.
        kind: Boxes or masks.
    """
    by_class = scored_matches(examples, kind)
    if not any(matches.num_objects for matches in by_class.values()):
        return []
    plots = [_threshold_plot(part, "F1 over score", pool_classes(by_class.values()))]
    if len(by_class) > 1:
        plots += [
            _threshold_plot(part, f"F1 over score: {label}", matches)
            for label, matches in list(by_class.items())[:MAX_CLASSES]
            if matches.num_objects
        ]
    return plots


def _threshold_plot(part: str, title: str, matches: ScoredMatches) -> ScorePlot:
    curve, best = score_curve(matches), best_f1(matches)
    lines = {
        name: _points(curve.scores, values)
        for name, values in (
            ("precision", curve.precision),
            ("recall", curve.recall),
            ("F1", curve.f1),
        )
    }
    area = PlotArea((0, 1), (0, 1))
    drawn = "".join(
        f'<path class="line-{index}" d="{area.to_path(points)}"/>'
        for index, points in enumerate(lines.values())
        if points
    )
    if best.threshold is not None:
        line = area.to_path([(best.threshold, 0), (best.threshold, 1)])
        drawn += f'<path class="ideal" d="{line}"/>'
    values = {"precision": best.precision, "recall": best.recall, "F1": best.f1}
    return ScorePlot(
        part=part,
        title=title,
        legend=tuple((name, format_number(name, value)) for name, value in values.items()),
        svg=svg_element(
            f"{title} of {part}",
            area.draw_axes(SHARE_TICKS, SHARE_TICKS, "lowest score", "value") + drawn,
            x_range=(0, 1),
        ),
        note=_note(best),
        csv=points_to_csv("score", lines),
    )


def _points(scores: FloatArray, values: FloatArray) -> list[Point]:
    """Return the points by ascending score, from score 0 on."""
    points = [(float(x), float(y)) for x, y in zip(scores, values, strict=True)][::-1]
    return [(0.0, points[0][1]), *points] if points else []


def _note(best: OperatingPoint) -> str:
    objects = f"{best.objects:,} reference objects"
    if best.threshold is None:
        return f"{objects}; no prediction is correct at IoU .5."
    return f"{objects}; the best F1 at IoU .5 is that of min_score={best.threshold:.3f} (dashed)."
