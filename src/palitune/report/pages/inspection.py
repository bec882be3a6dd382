"""Write what an inspection of data found: findings, numbers, drawn samples; a page and JSON."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from palitune.data.inspection.scan import InspectionReport, SplitReport
from palitune.data.inspection.warnings import InspectionWarning
from palitune.metrics.objects.codec_upper_bound import ALL
from palitune.models.config import ModelConfig
from palitune.records import Example, Instance
from palitune.report.images.drawing import draw_instances
from palitune.report.images.image_grid import load_image_grid
from palitune.report.page_stack import make_thumbnail, model_display_name, write_page
from palitune.report.pages.gallery import GalleryCard, TextTable, relative_to_max
from palitune.report.run_writer import write_json

MAX_CLASSES = 100
"""Classes in a table, the most frequent ones; `inspection.json` has all of them."""
_MAX_SHORT_SIDE = 560
"""Most pixels of the shorter side of a sample."""
_NO_DATA = "–"


def write_inspection_report(
    folder: Path,
    inspection: InspectionReport,
    findings: Sequence[InspectionWarning],
    model: ModelConfig,
) -> None:
    """Write `inspection.json` and `inspection.html`, and tell the essence in the terminal."""
    from rich import print as show
    from rich.markup import escape

    called = model_display_name(model)
    content = {
        "model": called,
        "findings": [{"level": one.level, "text": one.text} for one in findings],
        "splits": [one.stats for one in inspection.splits],
        "copies": inspection.duplicates.summary(),
    }
    write_json(folder / "inspection.json", content)
    page = _write_page(folder / "inspection.html", inspection, findings, called)
    show(overview_table(inspection.splits).to_rich())
    for one in findings:
        mark = "[red]✗[/red]" if one.level == "bad" else "[yellow]·[/yellow]"
        show(f"{mark} {escape(one.text)}")
    if not findings:
        show("[green]✓[/green] nothing odd was found")
    show(f"page: {page}")


def _write_page(
    file: Path, inspection: InspectionReport, findings: Sequence[InspectionWarning], model: str
) -> Path:
    splits = inspection.splits
    cards = [_sample_card(one, example) for one in splits for example in one.samples]
    parts = list(dict.fromkeys(one.component for one in splits))
    return write_page(
        file,
        "inspection.html",
        title=f"Data: {', '.join(parts)}",
        facts=[("model", model), ("splits", ", ".join(dict.fromkeys(s.split for s in splits)))],
        findings=findings,
        overview=overview_table(splits),
        sections=[
            ("findings", "Findings"),
            ("overview", "Overview"),
            *((f"part-{place}", part) for place, part in enumerate(parts)),
            *([("samples", "Samples")] if cards else []),
        ],
        parts=[
            (p, list(_part_tables([one for one in splits if one.component == p]))) for p in parts
        ],
        kinds=list(dict.fromkeys(card.kind for card in cards)),
        labels=sorted({label for card in cards for label in card.labels}),
        cards=cards,
    )


def overview_table(splits: Sequence[SplitReport]) -> TextTable:
    """Return a row per part and split."""
    names = ("", "examples", "images", "bad", "objects", "empty", "tokens", "too long")
    several = len({one.component for one in splits}) > 1
    rows = [
        ((f"{one.component}, " * several) + one.split, *_overview_cells(one.stats))
        for one in splits
    ]
    return TextTable(names, rows)


def _overview_cells(statistics: dict[str, Any]) -> tuple[str, ...]:
    objects, tokens = statistics["objects"], statistics["tokens"]
    return (
        f"{statistics['examples']:,}",
        f"{statistics['images']:,}",
        f"{statistics['bad_rows']:,}",
        f"{objects['objects']:,}" if objects else _NO_DATA,
        f"{statistics['empty_suffixes']:,}",
        f"{tokens['example']['median']:.0f}…{tokens['example']['max']:.0f}" if tokens else "",
        f"{tokens['over_max_length']:.1%}" if tokens else "",
    )


def _part_tables(splits: list[SplitReport]) -> Iterator[tuple[str, TextTable]]:
    """Yield the tables of one part with their titles, a column per split."""
    yield "Tokens", _token_table(splits)
    if any(one.stats["objects"] for one in splits):
        yield "Classes", _class_table(splits)
        yield "Sizes of objects", _size_table(splits)
        yield "Objects in an image", _objects_per_image_table(splits)
    for one in splits:
        if one.stats["answers"]:
            yield f"Answers, {one.split}", _answer_table(one.stats["answers"])
        if one.codec_upper_bounds:
            yield f"Ceiling of the codec, {one.split}", _codec_upper_bound_table(one)


def _token_table(splits: list[SplitReport]) -> TextTable:
    rows = []
    for one in splits:
        tokens = one.stats["tokens"]
        for what in ("prefix", "suffix", "example") if tokens else ():
            found = [f"{tokens[what][name]:.0f}" for name in ("median", "p95", "p99", "max")]
            rows.append((f"{one.split}, {what}", *found))
    over = ", ".join(
        f"{one.split} {one.stats['tokens']['over_max_new_tokens']:.1%}"
        for one in splits
        if one.stats["tokens"]
    )
    note = f"Suffixes longer than task.max_new_tokens={splits[0].task.max_new_tokens}: {over}."
    return TextTable(("tokens", "median", "95 %", "99 %", "longest"), rows, note)


def _class_table(splits: list[SplitReport]) -> TextTable:
    """Count objects by class in every split, and the images that hold some."""
    counts = {one.split: one.stats["objects"].get("classes", {}) for one in splits}
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
        for name in names[:MAX_CLASSES]
    ]
    columns = ("class", *counts, *(f"images of {split}" for split in counts))
    left = len(names) - MAX_CLASSES
    note = f"and {left} more in inspection.json" if left > 0 else ""
    return TextTable(
        columns, rows, note, relative_to_max([total[name] for name in names[:MAX_CLASSES]])
    )


def _size_table(splits: list[SplitReport]) -> TextTable:
    rows = []
    for one in splits:
        objects = one.stats["objects"]
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
        f"{one.split}: {_format_extents(one.stats['objects'])}"
        for one in splits
        if one.stats["objects"]
    )
    note = f"By area of the box, below 32² and 96² px: {small}"
    return TextTable(("size", "5 %", "median", "95 %"), rows, note)


def _format_extents(objects: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in objects["extents"].items())


def _objects_per_image_table(splits: list[SplitReport]) -> TextTable:
    counts = {one.split: one.stats["objects"].get("per_image", {}) for one in splits}
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
    return TextTable(("objects", *counts), rows, note, relative_to_max(totals))


def _answer_table(answers: dict[str, Any]) -> TextTable:
    counts: dict[str, int] = answers["most_frequent"]
    rows = [(text, f"{count:,}") for text, count in counts.items()]
    note = (
        f"{answers['distinct']:,} different ones; always saying the first would be right in "
        f"{answers['share_of_most_frequent']:.1%}."
    )
    return TextTable(
        ("answer", "examples"), rows, note, relative_to_max(list(answers["most_frequent"].values()))
    )


def _codec_upper_bound_table(split_report: SplitReport) -> TextTable:
    extents = ("small", "medium", "large", ALL)
    labels = sorted(
        {label for label, _ in split_report.codec_upper_bounds},
        key=lambda label: (label != ALL, label),
    )
    rows = []
    for label in labels[: MAX_CLASSES + 1]:
        cells = []
        for extent in extents:
            found = split_report.codec_upper_bounds.get((label, extent))
            cells.append(_NO_DATA if found is None else f"{found.iou:.3f} ({found.num_objects})")
        rows.append((label, *cells))
    note = (
        "Mean IoU of masks with themselves after being written as 4 <loc> and 16 <seg> tokens and "
        f"read back (objects in brackets), on {split_report.stats['codec_ceiling']['images']} images "
        "drawn at random. No model can do better."
    )
    return TextTable(("class", *extents), rows, note)


def _sample_card(split_report: SplitReport, example: Example) -> GalleryCard:
    instances = [item for item in example.reference if isinstance(item, Instance)]
    labels = list(dict.fromkeys(filter(None, (instance.label for instance in instances))))
    image = load_image_grid(example.images, example.size, _MAX_SHORT_SIDE)
    if instances:
        image = draw_instances(image, instances, size=example.size)
    lines = [("prefix", example.prefix)]
    lines += [("suffix", suffix) for suffix in example.suffixes]
    kind = f"{split_report.component}, {split_report.split}"
    return GalleryCard(
        id=example.id,
        kind=kind,
        grade="",
        badge=kind,
        labels=labels,
        thumbnail=make_thumbnail(image, f"{example.id}: {_join_labels(labels)}"),
        texts=lines,
        details=[("place", example.location)],
    )


def _join_labels(labels: Iterable[str]) -> str:
    return ", ".join(labels) or "no objects"
