"""Write `report.html`: metrics, curves, confusion matrix and examples of a run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.metrics import higher_is_better, perfect_value
from palitune.metrics.objects.confusion_matrix import LabelPair
from palitune.report.images import example_images
from palitune.report.metric_descriptions import define_values, describe_metrics
from palitune.report.metrics_table import MetricValue, metric_values, slice_values
from palitune.report.pages import (
    confusion_tables,
    example_selection,
    object_quality,
    sampled_answers,
)
from palitune.report.pages.cards import ExampleCard
from palitune.report.pages.example_cards import build_example_card
from palitune.report.plots import score_plots, training_curves
from palitune.report.plots.results_image import write_results_image
from palitune.report.plots.threshold_plots import ScorePlot
from palitune.report.rendering import write_page
from palitune.report.run_reader import RunFolder, read_run_folder

MAX_EXAMPLES = 300
"""Maximum number of examples on a page, including the galleries."""
MAX_GALLERY_BYTES, MAX_THUMBNAIL_BYTES = 800_000, 600_000
"""Maximum bytes of all images of the galleries, and of all thumbnails, before base64 encoding."""

_METHOD_TITLES = {"grpo": "Reward tuning", "rloo": "Reward tuning", "dpo": "Preference tuning"}
_KEYS_WITHOUT_NAME = ("size", "variant", "path")
_KEYS_WITH_NAME = ("resolution", "rank", "alpha")


@dataclass(frozen=True)
class PartReport:
    """Selected examples, confusion matrix and score plots of one part."""

    name: str
    selected: list[example_selection.SelectedExample]
    confusion_pairs: dict[int, list[LabelPair]]
    """(reference, prediction) classes of each example, by its id()."""
    confusion: confusion_tables.PartConfusion | None
    plots: list[ScorePlot]


def write_run_report(folder: Path) -> Path:
    """Write `report.html` and `results.png` from the files of a run folder; return the page's path.

    Raises:
        DataError: `metrics.json` is missing or a file cannot be read.
    """
    from markupsafe import Markup

    run = read_run_folder(folder)
    values = metric_values(_add_malformed_rates(run))
    parts = _build_parts(run, values)
    charts = training_curves.training_charts((*run.history, *run.speed))
    write_results_image(folder / "results.png", _page_title(run, values), values, charts)
    content: dict[str, Any] = {
        "run": run,
        "title": _page_title(run, values),
        "facts": _run_facts(run),
        "parts": _group_by_part(values),
        "counts": run.metrics.get("examples", {}),
        "slices": slice_values(run.metrics, values),
        "bar_length": _bar_length,
        "has_intervals": any(interval for metric in values for interval in metric.intervals),
        "has_before": run.metrics.get("before") is not None,
        "charts": [(chart, Markup(training_curves.draw_chart(chart))) for chart in charts],
        "sampled": sampled_answers.cards_by_step(run.samples),
        "plots": [(plot, Markup(plot.svg)) for part in parts for plot in part.plots],
        "thresholds": object_quality.threshold_tables(run.metrics, len(parts)),
        "error_types": object_quality.error_type_tables(run.metrics, len(parts)),
        "confusions": [part.confusion for part in parts if part.confusion],
        "part_names": [part.name for part in parts],
        "num_examples": len(run.examples),
        "cards": _build_cards(parts, folder),
        "galleries": _nonempty_galleries(parts),
        "metrics": describe_metrics(run.config),
        "definitions": define_values(values, run.metrics.get("metrics") or {}),
        "draws_objects": any(example.draws_boxes for example in run.examples),
        "versions": {k: v for k, v in run.environment.items() if not isinstance(v, dict)},
        "data": run.environment.get("data") or {},
        "has_setup": bool(run.skipped or run.config_yaml or run.environment),
    }
    sections = {
        "metrics": ("Metrics", True),
        "curves": ("Curves", content["charts"]),
        "sampled": ("Sampled answers", content["sampled"]),
        "scores": ("Confidence scores", content["plots"]),
        "errors": ("Error types", content["error_types"]),
        "confusion": ("Confusion matrix", content["confusions"]),
        "examples": ("Examples", content["cards"]),
        "setup": ("Setup and versions", content["has_setup"]),
    }
    content["sections"] = [(key, title) for key, (title, is_shown) in sections.items() if is_shown]
    return write_page(folder / "report.html", "run_report.html", content, script="page.js")


def _build_parts(run: RunFolder, metric_values: Sequence[MetricValue]) -> list[PartReport]:
    by_part = example_selection.by_part(run.examples)
    parts: list[PartReport] = []
    for name, examples in by_part.items():
        pairs = confusion_tables.confusion_pairs(examples)
        metrics = [metric.name for metric in metric_values if metric.part == name]
        parts.append(
            PartReport(
                name=name,
                selected=example_selection.select_examples(examples, MAX_EXAMPLES // len(by_part)),
                confusion_pairs=dict(zip(map(id, examples), pairs, strict=True)),
                confusion=confusion_tables.summarize_confusion(name, examples, pairs)
                if any(pairs)
                else None,
                plots=score_plots.draw_score_plots(name, examples, metrics),
            )
        )
    return parts


def _build_cards(parts: Iterable[PartReport], folder: Path) -> list[ExampleCard]:
    """Draw every selected example; the images share the maximum number of bytes."""
    selected = [(part, entry) for part in parts for entry in part.selected]
    num_small = sum(not entry.gallery_positions for _, entry in selected)
    max_bytes = {
        True: MAX_THUMBNAIL_BYTES // max(1, num_small),
        False: MAX_GALLERY_BYTES // max(1, len(selected) - num_small),
    }
    cards = []
    for part, entry in selected:
        small = not entry.gallery_positions
        images = example_images.draw_example(
            entry.example, max_bytes[small], folder, thumbnail=small
        )
        cards.append(build_example_card(entry, images, part.confusion_pairs[id(entry.example)]))
    return cards


def _nonempty_galleries(
    parts: Iterable[PartReport],
) -> list[tuple[example_selection.ExampleGallery, int]]:
    """Return the galleries that have examples, with their number."""
    keys = [key for part in parts for entry in part.selected for key in entry.gallery_positions]
    return [(g, keys.count(g.key)) for g in example_selection.GALLERIES if g.key in keys]


def _bar_length(metric: MetricValue) -> float:
    """Return the length of the bar of a metric value, in [0, 1]; an error rate may exceed 1."""
    if math.isnan(metric.after):
        return 0.0
    largest = perfect_value(metric.name) if higher_is_better(metric.name) else 1.0
    return max(0.0, min(1.0, metric.after / largest))


def _page_title(run: RunFolder, metric_values: Sequence[MetricValue]) -> str:
    parts = ", ".join(dict.fromkeys(metric.part for metric in metric_values if metric.part))
    kind = "Evaluation"
    if run.history or run.metrics.get("before") is not None:
        kind = _METHOD_TITLES.get(str(run.config.get("method")), "Fine-tuning")
    return f"{kind}{': ' * bool(parts)}{parts}"


def _run_facts(run: RunFolder) -> list[tuple[str, str]]:
    """Return (name, text) for the header of the page: model, adapter, data, split, date."""
    facts = [
        (group, _describe_option(run.config_choices.get(group, ""), run.config.get(group)))
        for group in ("model", "adapter", "data")
    ]
    if "split" in run.metrics:
        total = sum(run.metrics.get("examples", {}).values())
        facts.append(("evaluated on", f"{total:,} examples of {run.metrics['split']}"))
    facts += [("training", remark) for remark in run.training_notes]
    facts.append(("finished", f"{run.finished_at:%Y-%m-%d %H:%M}"))
    return [(name, text) for name, text in facts if text]


def _describe_option(option: str, group: Any) -> str:
    """Summarize a configuration group: `paligemma2 3b pt, resolution 448`."""
    settings = group if isinstance(group, dict) else {}
    values = [str(settings[key]) for key in _KEYS_WITHOUT_NAME if settings.get(key)]
    pairs = [f"{key} {settings[key]}" for key in _KEYS_WITH_NAME if settings.get(key)]
    return ", ".join([" ".join(filter(None, [option, *values])), *pairs]).strip(", ")


def _group_by_part(metric_values: Sequence[MetricValue]) -> dict[str, list[MetricValue]]:
    parts: dict[str, list[MetricValue]] = {}
    for metric in metric_values:
        parts.setdefault(metric.part, []).append(metric)
    return parts


def _add_malformed_rates(run: RunFolder) -> dict[str, Any]:
    """Return the metrics with the share of malformed predictions of each part."""
    after, before = dict(run.metrics["after"]), run.metrics.get("before")
    for part, examples in example_selection.by_part(run.examples).items():
        name = f"{part}/malformed"
        if name in after:
            continue
        after[name] = sum(e.after.value is None for e in examples) / len(examples)
        earlier = [e.before.value is None for e in examples if e.before]
        if before is not None and earlier:
            before = before | {name: sum(earlier) / len(earlier)}
    return run.metrics | {"after": after, "before": before}
