"""Write `report.html`: one file that shows what a run did, without network or JavaScript."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.metrics import best, higher_is_better
from palitune.metrics.confusion import Pair
from palitune.report import confusions, curves, pictures, sampled, score_plots, selection
from palitune.report.cards import Card, card
from palitune.report.provenance import metrics_of
from palitune.report.run_folder import RunFolder, read
from palitune.report.summary import Number, numbers, slices
from palitune.report.templates import render

SHOWN = 1000
"""Examples on a page, those of its galleries among them."""
BYTES_LARGE, BYTES_SMALL = 7_000_000, 4_000_000
"""Most bytes of all pictures of the galleries, and of all other ones, before they are encoded."""

_TUNING = {"grpo": "Reward tuning", "rloo": "Reward tuning", "dpo": "Preference tuning"}
_BARE = ("size", "stage", "path")
_NAMED = ("resolution", "rank", "alpha")


@dataclass(frozen=True)
class PartShown:
    """The examples of one part, and what they tell together."""

    name: str
    chosen: list[selection.Chosen]
    pairs: dict[int, list[Pair]]
    """What each example adds to the confusions, by its id()."""
    confusion: confusions.Confusion | None
    plots: list[score_plots.Plot]


def write(folder: Path) -> Path:
    """Write `report.html` into a run folder, from that folder's files, and return its path.

    Raises DataError where `metrics.json` is missing or a file is not what it should be.
    """
    run = read(folder)
    page = folder / "report.html"
    page.write_bytes(_render(run).encode("utf-8", "replace"))
    return page


def _render(run: RunFolder) -> str:
    from markupsafe import Markup

    found = numbers(_with_malformed(run))
    parts = _parts(run, found)
    cards = _cards(parts)
    content = {
        "run": run,
        "title": _title(run, found),
        "facts": _facts(run),
        "parts": _by_part(found),
        "counts": run.metrics.get("examples", {}),
        "sliced": slices(run.metrics, found),
        "bar": _bar,
        "has_intervals": any(interval for number in found for interval in number.intervals),
        "compares": run.metrics.get("before") is not None,
        "charts": [(chart, Markup(curves.svg(chart))) for chart in curves.charts(run.history)],
        "sampled": sampled.moments(run.samples),
        "plots": [(plot, Markup(plot.svg)) for part in parts for plot in part.plots],
        "confusions": [part.confusion for part in parts if part.confusion],
        "judged_parts": [part.name for part in parts],
        "judged": len(run.judged),
        "cards": cards,
        "galleries": _filled(parts),
        "metrics": metrics_of(run.settings),
        "versions": {k: v for k, v in run.environment.items() if not isinstance(v, dict)},
        "data": run.environment.get("data") or {},
        "has_origin": bool(run.skipped or run.configuration or run.environment),
    }
    return render("template.html", content, ("page.css",), "page.js")


def _parts(run: RunFolder, found: Sequence[Number]) -> list[PartShown]:
    by_part = selection.by_part(run.judged)
    shown: list[PartShown] = []
    for name, examples in by_part.items():
        pairs = confusions.pairs_of(examples)
        names = [number.name for number in found if number.part == name]
        shown.append(
            PartShown(
                name=name,
                chosen=selection.choose(examples, SHOWN // len(by_part)),
                pairs={id(e): mine for e, mine in zip(examples, pairs, strict=True)},
                confusion=confusions.confusion(name, examples, pairs) if any(pairs) else None,
                plots=score_plots.plots(name, examples, names),
            )
        )
    return shown


def _cards(parts: Iterable[PartShown]) -> list[Card]:
    """Draw every chosen example once; the pictures share the bytes that a page may have."""
    chosen = [(part, one) for part in parts for one in part.chosen]
    counts = {True: 0, False: 0}
    for _, one in chosen:
        small = not one.places
        counts[small] += pictures.count(one.example, thumbnail=small)
    allowed = {
        True: BYTES_SMALL // max(1, counts[True]),
        False: BYTES_LARGE // max(1, counts[False]),
    }
    cards = []
    for part, one in chosen:
        small = not one.places
        drawn = pictures.pictures(one.example, allowed[small], thumbnail=small)
        cards.append(card(one, drawn, part.pairs[id(one.example)]))
    return cards


def _filled(parts: Iterable[PartShown]) -> list[tuple[selection.Gallery, int]]:
    """The galleries that have examples, with how many."""
    held = [key for part in parts for one in part.chosen for key in one.places]
    return [(g, held.count(g.key)) for g in selection.GALLERIES if g.key in held]


def _bar(number: Number) -> float:
    """How long the bar of a number is, as a share of the longest; an error rate may exceed it."""
    longest = best(number.name) if higher_is_better(number.name) else 1.0
    return max(0.0, min(1.0, number.after / longest)) if number.after == number.after else 0.0


def _title(run: RunFolder, found: Sequence[Number]) -> str:
    parts = ", ".join(dict.fromkeys(number.part for number in found if number.part))
    trained = run.history or run.metrics.get("before") is not None
    kind = _TUNING.get(str(run.settings.get("method")), "Fine-tuning") if trained else "Evaluation"
    return f"{kind}{': ' * bool(parts)}{parts}"


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    """What the headline says of a run: what was adapted, how, on what, when."""
    facts = [
        (group, _described(run.choices.get(group, ""), run.settings.get(group)))
        for group in ("model", "adapter", "data")
    ]
    if "split" in run.metrics:
        total = sum(run.metrics.get("examples", {}).values())
        facts.append(("judged on", f"{total} examples of {run.metrics['split']}"))
    facts += [("training", remark) for remark in run.remarks]
    facts.append(("finished", f"{run.written:%Y-%m-%d %H:%M}"))
    return [(name, text) for name, text in facts if text]


def _described(option: str, group: Any) -> str:
    """Name a configuration group by what tells it apart: `paligemma2 3b pt, resolution 448`."""
    settings = group if isinstance(group, dict) else {}
    bare = [str(settings[key]) for key in _BARE if settings.get(key)]
    named = [f"{key} {settings[key]}" for key in _NAMED if settings.get(key)]
    return ", ".join([" ".join(word for word in [option, *bare] if word), *named]).strip(", ")


def _by_part(found: Sequence[Number]) -> dict[str, list[Number]]:
    parts: dict[str, list[Number]] = {}
    for number in found:
        parts.setdefault(number.part, []).append(number)
    return parts


def _with_malformed(run: RunFolder) -> dict[str, Any]:
    """The metrics, with the share of malformed answers counted where they do not name it."""
    after, before = dict(run.metrics["after"]), run.metrics.get("before")
    for part, examples in selection.by_part(run.judged).items():
        name = f"{part}/malformed"
        if name in after:
            continue
        after[name] = sum(e.after.value is None for e in examples) / len(examples)
        earlier = [e.before.value is None for e in examples if e.before]
        if before is not None and earlier:
            before = before | {name: sum(earlier) / len(earlier)}
    return run.metrics | {"after": after, "before": before}
