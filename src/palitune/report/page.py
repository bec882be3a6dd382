"""Write `report.html`: one file that shows what a run did, without network or JavaScript."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.report import curves, selection
from palitune.report.cards import Card, card
from palitune.report.drawing import printable
from palitune.report.run_folder import Judged, RunFolder, read
from palitune.report.summary import Number, numbers, slices

SHOWN_AT_RANDOM = 12
"""Examples per part in the random sample."""
SHOWN_WORST = 8
SHOWN_CHANGED = 6
"""Examples per part among the most improved, and among those that became worse."""

_HERE = Path(__file__).parent
_BARE = ("size", "stage", "path")
_NAMED = ("resolution", "rank", "alpha")

Choice = Callable[[list[Judged]], list[Judged]]


@dataclass(frozen=True)
class Group:
    """The cards of one part in one section."""

    part: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    lead: str
    groups: tuple[Group, ...]


def write(folder: Path) -> Path:
    """Write `report.html` into a run folder, from that folder's files, and return its path.

    Raises DataError where `metrics.json` is missing or a file is not what it should be.
    """
    run = read(folder)
    page = folder / "report.html"
    page.write_bytes(_render(run).encode("utf-8", "replace"))
    return page


def _render(run: RunFolder) -> str:
    import jinja2
    from markupsafe import Markup

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    found = numbers(_with_malformed(run))
    return templates.get_template("template.html").render(
        run=run,
        title=_title(run, found),
        facts=_facts(run),
        parts=_by_part(found),
        counts=run.metrics.get("examples", {}),
        sliced=slices(run.metrics, found),
        has_intervals=any(interval for number in found for interval in number.intervals),
        compares=run.metrics.get("before") is not None,
        charts=[(chart, Markup(curves.svg(chart))) for chart in curves.charts(run.history)],
        judged_parts=list(selection.by_part(run.judged)),
        has_settings=bool(run.skipped or run.configuration or run.environment),
        sections=_sections(run.judged),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(digest).decode("ascii"),
    )


def _title(run: RunFolder, found: Sequence[Number]) -> str:
    parts = ", ".join(dict.fromkeys(number.part for number in found if number.part))
    trained = run.history or run.metrics.get("before") is not None
    return f"{'Fine-tuning' if trained else 'Evaluation'}{': ' * bool(parts)}{parts}"


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


def _sections(judged: Sequence[Judged]) -> list[Section]:
    parts = selection.by_part(judged)
    drawn: dict[int, Card] = {}

    def section(key: str, title: str, lead: str, choose: Choice) -> Section:
        groups: list[Group] = []
        for part, examples in parts.items():
            chosen = choose(examples)
            drawn.update({id(e): card(e) for e in chosen if id(e) not in drawn})
            if chosen:
                groups.append(Group(part, tuple(drawn[id(e)] for e in chosen)))
        return Section(key, title, lead, tuple(groups))

    return [
        section(
            "sample",
            "Predictions, drawn at random",
            "An honest sample: chosen by chance, the same ones whenever this page is written.",
            lambda examples: selection.at_random(examples, SHOWN_AT_RANDOM),
        ),
        section(
            "worst",
            "Worst predictions",
            "The lowest scores of each part: where to look for wrong labels and hard cases.",
            lambda examples: selection.worst(examples, SHOWN_WORST),
        ),
        section(
            "improved",
            "Most improved",
            "Where adaptation raised the score most.",
            lambda examples: selection.most_changed(examples, SHOWN_CHANGED, better=True),
        ),
        section(
            "worsened",
            "Became worse",
            "Where adaptation lowered the score most.",
            lambda examples: selection.most_changed(examples, SHOWN_CHANGED, better=False),
        ),
    ]
