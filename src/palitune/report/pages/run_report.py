"""Write `report.html`: one file that shows what a run did, without network or JavaScript."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.metrics import higher_is_better, perfect_value
from palitune.metrics.objects.confusion_matrix import LabelPair
from palitune.report.images import example_images
from palitune.report.metric_descriptions import describe_metrics
from palitune.report.metrics_table import MetricValue, metric_values, slice_values
from palitune.report.pages import confusion_tables, example_selection, sampled_answers
from palitune.report.pages.example_cards import ExampleCard, build_example_card
from palitune.report.plots import score_plots, training_curves
from palitune.report.run_reader import RunFolder, read_run_folder
from palitune.report.templates import render_template

MAX_EXAMPLES = 1000
"""Examples on a page, those of its galleries among them."""
MAX_GALLERY_BYTES, MAX_THUMBNAIL_BYTES = 7_000_000, 4_000_000
"""Most bytes of all pictures of the galleries, and of all other ones, before they are encoded."""

_METHOD_TITLES = {"grpo": "Reward tuning", "rloo": "Reward tuning", "dpo": "Preference tuning"}
_KEYS_WITHOUT_NAME = ("size", "variant", "path")
_KEYS_WITH_NAME = ("resolution", "rank", "alpha")


@dataclass(frozen=True)
class PartReport:
    """The examples of one part, and what they tell together."""

    name: str
    selected: list[example_selection.SelectedExample]
    confusion_pairs: dict[int, list[LabelPair]]
    """What each example adds to the confusions, by its id()."""
    confusion: confusion_tables.PartConfusion | None
    plots: list[score_plots.ScorePlot]


def write_run_report(folder: Path) -> Path:
    """Write `report.html` into a run folder, from that folder's files, and return its path.

    Raises DataError where `metrics.json` is missing or a file is not what it should be.
    """
    run = read_run_folder(folder)
    page = folder / "report.html"
    page.write_bytes(_render_page(run).encode("utf-8", "replace"))
    return page


def _render_page(run: RunFolder) -> str:
    from markupsafe import Markup

    found = metric_values(_add_malformed_rates(run))
    parts = _build_parts(run, found)
    cards = _build_cards(parts)
    content = {
        "run": run,
        "title": _page_title(run, found),
        "facts": _run_facts(run),
        "parts": _group_by_part(found),
        "counts": run.metrics.get("examples", {}),
        "sliced": slice_values(run.metrics, found),
        "bar": _bar_length,
        "has_intervals": any(interval for number in found for interval in number.intervals),
        "compares": run.metrics.get("before") is not None,
        "charts": [
            (chart, Markup(training_curves.draw_chart(chart)))
            for chart in training_curves.training_charts(run.history)
        ],
        "sampled": sampled_answers.cards_by_step(run.samples),
        "plots": [(plot, Markup(plot.svg)) for part in parts for plot in part.plots],
        "confusions": [part.confusion for part in parts if part.confusion],
        "judged_parts": [part.name for part in parts],
        "judged": len(run.examples),
        "cards": cards,
        "galleries": _nonempty_galleries(parts),
        "metrics": describe_metrics(run.config),
        "versions": {k: v for k, v in run.environment.items() if not isinstance(v, dict)},
        "data": run.environment.get("data") or {},
        "has_origin": bool(run.skipped or run.config_yaml or run.environment),
    }
    return render_template("run_report.html", content, ("page.css",), "page.js")


def _build_parts(run: RunFolder, metric_values: Sequence[MetricValue]) -> list[PartReport]:
    by_part = example_selection.by_part(run.examples)
    shown: list[PartReport] = []
    for name, examples in by_part.items():
        pairs = confusion_tables.confusion_pairs(examples)
        names = [number.name for number in metric_values if number.part == name]
        shown.append(
            PartReport(
                name=name,
                selected=example_selection.select_examples(examples, MAX_EXAMPLES // len(by_part)),
                confusion_pairs={id(e): mine for e, mine in zip(examples, pairs, strict=True)},
                confusion=confusion_tables.summarize_confusion(name, examples, pairs)
                if any(pairs)
                else None,
                plots=score_plots.draw_score_plots(name, examples, names),
            )
        )
    return shown


def _build_cards(parts: Iterable[PartReport]) -> list[ExampleCard]:
    """Draw every chosen example once; the pictures share the bytes that a page may have."""
    chosen = [(part, one) for part in parts for one in part.selected]
    counts = {True: 0, False: 0}
    for _, one in chosen:
        small = not one.gallery_positions
        counts[small] += example_images.count_images(one.example, thumbnail=small)
    allowed = {
        True: MAX_THUMBNAIL_BYTES // max(1, counts[True]),
        False: MAX_GALLERY_BYTES // max(1, counts[False]),
    }
    cards = []
    for part, one in chosen:
        small = not one.gallery_positions
        drawn = example_images.draw_example(one.example, allowed[small], thumbnail=small)
        cards.append(build_example_card(one, drawn, part.confusion_pairs[id(one.example)]))
    return cards


def _nonempty_galleries(parts: Iterable[PartReport]) -> list[tuple[example_selection.Gallery, int]]:
    """The galleries that have examples, with how many."""
    held = [key for part in parts for one in part.selected for key in one.gallery_positions]
    return [(g, held.count(g.key)) for g in example_selection.GALLERIES if g.key in held]


def _bar_length(metric_value: MetricValue) -> float:
    """How long the bar of a number is, as a share of the longest; an error rate may exceed it."""
    longest = perfect_value(metric_value.name) if higher_is_better(metric_value.name) else 1.0
    return (
        max(0.0, min(1.0, metric_value.after / longest))
        if metric_value.after == metric_value.after
        else 0.0
    )


def _page_title(run: RunFolder, metric_values: Sequence[MetricValue]) -> str:
    parts = ", ".join(dict.fromkeys(number.part for number in metric_values if number.part))
    trained = run.history or run.metrics.get("before") is not None
    kind = (
        _METHOD_TITLES.get(str(run.config.get("method")), "Fine-tuning")
        if trained
        else "Evaluation"
    )
    return f"{kind}{': ' * bool(parts)}{parts}"


def _run_facts(run: RunFolder) -> list[tuple[str, str]]:
    """What the headline says of a run: what was adapted, how, on what, when."""
    facts = [
        (group, _describe_option(run.config_choices.get(group, ""), run.config.get(group)))
        for group in ("model", "adapter", "data")
    ]
    if "split" in run.metrics:
        total = sum(run.metrics.get("examples", {}).values())
        facts.append(("judged on", f"{total} examples of {run.metrics['split']}"))
    facts += [("training", remark) for remark in run.training_notes]
    facts.append(("finished", f"{run.finished_at:%Y-%m-%d %H:%M}"))
    return [(name, text) for name, text in facts if text]


def _describe_option(option: str, group: Any) -> str:
    """Name a configuration group by what tells it apart: `paligemma2 3b pt, resolution 448`."""
    settings = group if isinstance(group, dict) else {}
    bare = [str(settings[key]) for key in _KEYS_WITHOUT_NAME if settings.get(key)]
    named = [f"{key} {settings[key]}" for key in _KEYS_WITH_NAME if settings.get(key)]
    return ", ".join([" ".join(word for word in [option, *bare] if word), *named]).strip(", ")


def _group_by_part(metric_values: Sequence[MetricValue]) -> dict[str, list[MetricValue]]:
    parts: dict[str, list[MetricValue]] = {}
    for number in metric_values:
        parts.setdefault(number.part, []).append(number)
    return parts


def _add_malformed_rates(run: RunFolder) -> dict[str, Any]:
    """The metrics, with the share of malformed answers counted where they do not name it."""
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
