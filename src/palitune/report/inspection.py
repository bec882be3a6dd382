"""Write what an inspection of data found: findings, numbers, drawn samples; a page and JSON."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from palitune.data.inspection import Inspected
from palitune.data.inspection.findings import Finding
from palitune.data.inspection.walk import InspectedSplit
from palitune.examples import Example, Instance
from palitune.metrics.mask_ceiling import ALL
from palitune.models.checkpoints import Model
from palitune.report.drawing import draw_instances
from palitune.report.gallery import Card, Table, shares
from palitune.report.image_rows import load_row
from palitune.report.pages import name_of, thumbnail, write_page
from palitune.report.writing import write_json

MOST_CLASSES = 100
"""Classes in a table, the most frequent ones; `inspection.json` has all of them."""
_SHORT = 560
"""Most pixels of the shorter side of a sample."""
_NO_DATA = "–"


def show_inspection(
    folder: Path, inspected: Inspected, findings: Sequence[Finding], model: Model
) -> None:
    """Write `inspection.json` and `inspection.html`, and tell the essence in the terminal."""
    from rich import print as show
    from rich.markup import escape

    called = name_of(model)
    content = {
        "model": called,
        "findings": [{"level": one.level, "text": one.text} for one in findings],
        "splits": [one.numbers for one in inspected.splits],
        "copies": inspected.copies.summary(),
    }
    write_json(folder / "inspection.json", content)
    page = _write_page(folder / "inspection.html", inspected, findings, called)
    show(overview(inspected.splits).for_terminal())
    for one in findings:
        mark = "[red]✗[/red]" if one.level == "bad" else "[yellow]·[/yellow]"
        show(f"{mark} {escape(one.text)}")
    if not findings:
        show("[green]✓[/green] nothing odd was found")
    show(f"page: {page}")


def _write_page(file: Path, inspected: Inspected, findings: Sequence[Finding], model: str) -> Path:
    splits = inspected.splits
    cards = [_card(one, example) for one in splits for example in one.samples]
    parts = list(dict.fromkeys(one.part for one in splits))
    return write_page(
        file,
        "inspection.html",
        title=f"Data: {', '.join(parts)}",
        facts=[("model", model), ("splits", ", ".join(dict.fromkeys(s.split for s in splits)))],
        findings=findings,
        overview=overview(splits),
        sections=[
            ("findings", "Findings"),
            ("overview", "Overview"),
            *((f"part-{place}", part) for place, part in enumerate(parts)),
            *([("samples", "Samples")] if cards else []),
        ],
        parts=[(p, list(_tables([one for one in splits if one.part == p]))) for p in parts],
        kinds=list(dict.fromkeys(card.kind for card in cards)),
        labels=sorted({label for card in cards for label in card.labels}),
        cards=cards,
    )


def overview(splits: Sequence[InspectedSplit]) -> Table:
    """Return a row per part and split."""
    names = ("", "examples", "images", "bad", "objects", "empty", "tokens", "too long")
    several = len({one.part for one in splits}) > 1
    rows = [((f"{one.part}, " * several) + one.split, *_row(one.numbers)) for one in splits]
    return Table(names, rows)


def _row(numbers: dict[str, Any]) -> tuple[str, ...]:
    objects, tokens = numbers["objects"], numbers["tokens"]
    return (
        f"{numbers['examples']:,}",
        f"{numbers['images']:,}",
        f"{numbers['bad_rows']:,}",
        f"{objects['objects']:,}" if objects else _NO_DATA,
        f"{numbers['empty_suffixes']:,}",
        f"{tokens['example']['median']:.0f}…{tokens['example']['max']:.0f}" if tokens else "",
        f"{tokens['over_max_length']:.1%}" if tokens else "",
    )


def _tables(splits: list[InspectedSplit]) -> Iterator[tuple[str, Table]]:
    """Yield the tables of one part with their titles, a column per split."""
    yield "Tokens", _tokens(splits)
    if any(one.numbers["objects"] for one in splits):
        yield "Classes", _classes(splits)
        yield "Sizes of objects", _sizes(splits)
        yield "Objects in an image", _per_image(splits)
    for one in splits:
        if one.numbers["answers"]:
            yield f"Answers, {one.split}", _answers(one.numbers["answers"])
        if one.ceilings:
            yield f"Ceiling of the codec, {one.split}", _ceilings(one)


def _tokens(splits: list[InspectedSplit]) -> Table:
    rows = []
    for one in splits:
        tokens = one.numbers["tokens"]
        for what in ("prefix", "suffix", "example") if tokens else ():
            found = [f"{tokens[what][name]:.0f}" for name in ("median", "p95", "p99", "max")]
            rows.append((f"{one.split}, {what}", *found))
    over = ", ".join(
        f"{one.split} {one.numbers['tokens']['over_max_new_tokens']:.1%}"
        for one in splits
        if one.numbers["tokens"]
    )
    note = f"Suffixes longer than task.max_new_tokens={splits[0].task.max_new_tokens}: {over}."
    return Table(("tokens", "median", "95 %", "99 %", "longest"), rows, note)


def _classes(splits: list[InspectedSplit]) -> Table:
    """Count objects by class in every split, and the images that hold some."""
    counts = {one.split: one.numbers["objects"].get("classes", {}) for one in splits}
    total: dict[str, int] = {}
    for classes in counts.values():
        for name, numbers in classes.items():
            total[name] = total.get(name, 0) + numbers["objects"]
    names = sorted(total, key=lambda name: -total[name])
    rows = [
        (
            name,
            *(f"{classes.get(name, {}).get('objects', 0):,}" for classes in counts.values()),
            *(f"{classes.get(name, {}).get('images', 0):,}" for classes in counts.values()),
        )
        for name in names[:MOST_CLASSES]
    ]
    columns = ("class", *counts, *(f"images of {split}" for split in counts))
    left = len(names) - MOST_CLASSES
    note = f"and {left} more in inspection.json" if left > 0 else ""
    return Table(columns, rows, note, shares([total[name] for name in names[:MOST_CLASSES]]))


def _sizes(splits: list[InspectedSplit]) -> Table:
    rows = []
    for one in splits:
        objects = one.numbers["objects"]
        if not objects or not objects["objects"]:
            continue
        for name, key in (
            ("shorter side, px", "shorter_side"),
            ("the same as the model sees it", "shorter_side_for_the_model"),
            ("share of the image, %", "share_of_image"),
        ):
            factor = 100 if "%" in name else 1
            found = [f"{objects[key][place] * factor:.1f}" for place in ("p5", "median", "p95")]
            rows.append((f"{one.split}, {name}", *found))
    small = "; ".join(
        f"{one.split}: {_extents(one.numbers['objects'])}"
        for one in splits
        if one.numbers["objects"]
    )
    note = f"By area of the box, below 32² and 96² px: {small}"
    return Table(("size", "5 %", "median", "95 %"), rows, note)


def _extents(objects: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in objects["extents"].items())


def _per_image(splits: list[InspectedSplit]) -> Table:
    counts = {one.split: one.numbers["objects"].get("per_image", {}) for one in splits}
    numbers = sorted({int(number) for found in counts.values() for number in found})
    ranges = [(n, n) for n in range(6)] + [(6, 10), (11, 20), (21, 50), (51, max([51, *numbers]))]
    rows, totals = [], []
    for low, high in ranges:
        inside = [
            sum(count for number, count in found.items() if low <= int(number) <= high)
            for found in counts.values()
        ]
        if any(inside):
            name = str(low) if low == high else f"{low} to {high}"
            rows.append((name, *(f"{count:,}" for count in inside)))
            totals.append(sum(inside))
    note = "Regions of many objects are not counted."
    return Table(("objects", *counts), rows, note, shares(totals))


def _answers(answers: dict[str, Any]) -> Table:
    counts: dict[str, int] = answers["most_frequent"]
    rows = [(text, f"{count:,}") for text, count in counts.items()]
    note = (
        f"{answers['distinct']:,} different ones; always saying the first would be right in "
        f"{answers['share_of_most_frequent']:.1%}."
    )
    return Table(
        ("answer", "examples"), rows, note, shares(list(answers["most_frequent"].values()))
    )


def _ceilings(one: InspectedSplit) -> Table:
    extents = ("small", "medium", "large", ALL)
    labels = sorted({label for label, _ in one.ceilings}, key=lambda label: (label != ALL, label))
    rows = []
    for label in labels[: MOST_CLASSES + 1]:
        cells = []
        for extent in extents:
            found = one.ceilings.get((label, extent))
            cells.append(_NO_DATA if found is None else f"{found.iou:.3f} ({found.objects})")
        rows.append((label, *cells))
    note = (
        "Mean IoU of masks with themselves after being written as 4 <loc> and 16 <seg> tokens and "
        f"read back (objects in brackets), on {one.numbers['codec_ceiling']['images']} images "
        "drawn at random. No model can do better."
    )
    return Table(("class", *extents), rows, note)


def _card(one: InspectedSplit, example: Example) -> Card:
    instances = [item for item in example.reference if isinstance(item, Instance)]
    labels = list(dict.fromkeys(filter(None, (instance.label for instance in instances))))
    image = load_row(example.images, example.size, _SHORT)
    if instances:
        image = draw_instances(image, instances, size=example.size)
    lines = [("prefix", example.prefix)]
    lines += [("suffix", suffix) for suffix in example.suffixes]
    kind = f"{one.part}, {one.split}"
    return Card(
        id=example.id,
        kind=kind,
        grade="",
        mark=kind,
        labels=labels,
        picture=thumbnail(image, f"{example.id}: {_named(labels)}"),
        lines=lines,
        details=[("place", example.place)],
    )


def _named(labels: Iterable[str]) -> str:
    return ", ".join(labels) or "no objects"
