"""Report of a data inspection: warnings, statistics and sample images, as a page and JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palitune.data.inspection.augmented_views import AugmentedSample, AugmentedView
from palitune.data.inspection.scan import InspectionReport, SplitReport
from palitune.data.inspection.warnings import InspectionWarning
from palitune.distributed.terminal import print_line
from palitune.metrics.objects.codec_upper_bound import ALL
from palitune.models.config import ModelConfig
from palitune.records import Example, Instance
from palitune.report.images.example_images import encode_objects, encode_view
from palitune.report.naming import model_display_name
from palitune.report.pages.cards import ExampleCard, plain_text
from palitune.report.plots.density_map import DensityMap, draw_density_map
from palitune.report.rendering import write_page
from palitune.report.run_writer import write_json
from palitune.report.tables import TextTable, relative_to_max

MAX_CLASSES = 100
"""Maximum number of classes in a table, the most frequent ones; `inspection.json` has all."""
_NO_DATA = "–"
_DEFINITIONS = {
    "bad": "Rows that are left out or stop a training, with the cause in the table of bad rows.",
    "empty": "Examples whose target text is empty.",
    "tokens": "Median and maximum of the tokens of an example: image, prompt and target text.",
    "too long": "Share of examples with more than data.max_length tokens.",
    "95 %": "95 % of the values are at most this one.",
    "99 %": "99 % of the values are at most this one.",
    "5 %": "5 % of the values are at most this one.",
    "small": "Mean IoU for masks of up to 32² pixels.",
    "medium": "Mean IoU for masks from 32² to 96² pixels.",
    "large": "Mean IoU for masks above 96² pixels.",
}
"""Definitions of the columns of tables."""


def write_inspection_report(
    folder: Path,
    inspection: InspectionReport,
    warnings: Sequence[InspectionWarning],
    model: ModelConfig,
    augmented: Sequence[AugmentedSample] = (),
) -> None:
    """Write `inspection.json` and `inspection.html`, and print overview and warnings.

    Args:
        folder: Run folder.
        inspection: Statistics and samples of every split.
        warnings: Warnings about the data.
        model: Base model, whose processor was used.
        augmented: Samples with augmented views.
    """
    from rich import print as print_rich

    name = model_display_name(model)
    content = {
        "model": name,
        "findings": [{"level": warning.level, "text": warning.text} for warning in warnings],
        "splits": [split.stats for split in inspection.splits],
        "copies": inspection.duplicates.summary(),
    }
    write_json(folder / "inspection.json", content)
    page = _write_page(folder / "inspection.html", inspection.splits, warnings, name, augmented)
    print_rich(overview_table(inspection.splits).to_rich())
    for warning in warnings:
        print_line(warning.text, *(("✗", "red") if warning.level == "bad" else ("·", "yellow")))
    if not warnings:
        print_line("no problems found", "✓", "green")
    print_line(f"page: {page}")


def _write_page(
    file: Path,
    splits: Sequence[SplitReport],
    warnings: Sequence[InspectionWarning],
    model: str,
    augmented: Sequence[AugmentedSample],
) -> Path:
    cards = [_sample_card(split, e, file.parent) for split in splits for _, e in split.samples]
    by_part: dict[str, list[SplitReport]] = {}
    for split in splits:
        by_part.setdefault(split.component, []).append(split)
    names = ", ".join(dict.fromkeys(split.split for split in splits))
    content = {
        "title": f"Data: {', '.join(by_part)}",
        "facts": [("model", model), ("splits", names)],
        "sections": [
            ("warnings", "Warnings"),
            ("overview", "Overview"),
            *((f"part-{index}", part) for index, part in enumerate(by_part)),
            *([("augmentation", "Augmentation")] if augmented else []),
            *([("samples", "Samples")] if cards else []),
        ],
        "warnings": warnings,
        "overview": overview_table(splits),
        "bad_rows": _bad_row_table(splits),
        "parts": [
            (part, list(_part_tables(of_part)), list(_density_maps(of_part)))
            for part, of_part in by_part.items()
        ],
        "augmented": [_augmented_card(sample, file.parent) for sample in augmented],
        "cards": cards,
        "definitions": _DEFINITIONS,
    }
    return write_page(file, "inspection.html", content, script="page.js")


def overview_table(splits: Sequence[SplitReport]) -> TextTable:
    """Return a table with a row per part and split."""
    columns = ("", "examples", "images", "bad", "objects", "empty", "tokens", "too long")
    several = len({split.component for split in splits}) > 1
    rows = [
        ((f"{split.component}, " * several) + split.split, *_overview_cells(split.stats))
        for split in splits
    ]
    return TextTable(columns, rows)


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


def _bad_row_table(splits: Sequence[SplitReport]) -> TextTable | None:
    """Return the bad rows of all splits by cause; None if there are none."""
    rows = [
        (group.cause, f"{split.component}, {split.split}", f"{group.count:,}", group.messages[0])
        for split in splits
        for group in split.bad_row_groups[:MAX_CLASSES]
    ]
    columns = ("cause", "split", "rows", "the first")
    return TextTable(columns, rows, title="Bad rows by cause") if rows else None


def _density_maps(splits: Sequence[SplitReport]) -> Iterator[DensityMap]:
    """Yield maps of the centers and sizes of the objects of each split."""
    for split in splits:
        objects = split.stats["objects"]
        if objects and objects["objects"]:
            yield draw_density_map(f"Centers of boxes, {split.split}", objects["centers"], "x", "y")
            yield draw_density_map(
                f"Sizes of boxes, {split.split}", objects["widths_and_heights"],
                "width / image width", "height / image height",
            )  # fmt: skip


def _part_tables(splits: list[SplitReport]) -> Iterator[TextTable]:
    """Yield the tables of one part."""
    yield _token_table(splits)
    if any(split.stats["objects"] for split in splits):
        yield _class_table(splits)
        yield _size_table(splits)
        yield _objects_per_image_table(splits)
    for split in splits:
        if split.stats["answers"]:
            yield _answer_table(split)
        if split.codec_upper_bounds:
            yield _codec_upper_bound_table(split)


def _token_table(splits: list[SplitReport]) -> TextTable:
    rows, shares = [], []
    for split in splits:
        tokens = split.stats["tokens"]
        if not tokens:
            continue
        for kind in ("prefix", "suffix", "example"):
            cells = [f"{tokens[kind][key]:.0f}" for key in ("median", "p95", "p99", "max")]
            rows.append((f"{split.split}, {kind}", *cells))
        shares.append(f"{split.split} {tokens['over_max_new_tokens']:.1%}")
    limit = splits[0].task.max_new_tokens
    note = f"Suffixes longer than task.max_new_tokens={limit}: {', '.join(shares)}."
    return TextTable(("tokens", "median", "95 %", "99 %", "max"), rows, note, "Tokens")


def _class_table(splits: list[SplitReport]) -> TextTable:
    """Count objects of each class, and images with such objects, by split."""
    counts = {split.split: split.stats["objects"].get("classes", {}) for split in splits}
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
    more = len(names) - MAX_CLASSES
    note = f"and {more} more in inspection.json" if more > 0 else ""
    lengths = relative_to_max([total[name] for name in names[:MAX_CLASSES]])
    return TextTable(columns, rows, note, "Classes", lengths)


def _size_table(splits: list[SplitReport]) -> TextTable:
    rows, extents = [], []
    for split in splits:
        objects = split.stats["objects"]
        if not objects:
            continue
        extents.append(f"{split.split}: {_format_extents(objects)}")
        for name, key, factor in (
            ("shorter side (px)", "shorter_side", 1),
            ("shorter side at model resolution (px)", "shorter_side_for_the_model", 1),
            ("share of the image (%)", "share_of_image", 100),
        ):
            if objects["objects"]:
                cells = [f"{objects[key][q] * factor:.1f}" for q in ("p5", "median", "p95")]
                rows.append((f"{split.split}, {name}", *cells))
    note = f"By box area, with limits 32² and 96² px: {'; '.join(extents)}"
    return TextTable(("size", "5 %", "median", "95 %"), rows, note, "Object sizes")


def _format_extents(objects: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in objects["extents"].items())


def _objects_per_image_table(splits: list[SplitReport]) -> TextTable:
    counts = {split.split: split.stats["objects"].get("per_image", {}) for split in splits}
    numbers = [int(number) for of_split in counts.values() for number in of_split]
    ranges = [(n, n) for n in range(6)] + [(6, 10), (11, 20), (21, 50), (51, max([51, *numbers]))]
    rows, totals = [], []
    for low, high in ranges:
        inside = [
            sum(count for number, count in of_split.items() if low <= int(number) <= high)
            for of_split in counts.values()
        ]
        if any(inside):
            name = str(low) if low == high else f"{low} to {high}"
            rows.append((name, *(f"{count:,}" for count in inside)))
            totals.append(sum(inside))
    note = "Crowd regions are not counted."
    lengths = relative_to_max(totals)
    return TextTable(("objects", *counts), rows, note, "Objects per image", lengths)


def _answer_table(split: SplitReport) -> TextTable:
    answers = split.stats["answers"]
    counts: dict[str, int] = answers["most_frequent"]
    rows = [(text, f"{count:,}") for text, count in counts.items()]
    note = (
        f"{answers['distinct']:,} distinct answers. Always giving the most frequent one is right "
        f"for {answers['share_of_most_frequent']:.1%}."
    )
    lengths = relative_to_max(list(counts.values()))
    return TextTable(("answer", "examples"), rows, note, f"Answers, {split.split}", lengths)


def _codec_upper_bound_table(split: SplitReport) -> TextTable:
    extents = ("small", "medium", "large", ALL)
    labels = {label for label, _ in split.codec_upper_bounds}
    rows = []
    for label in sorted(labels, key=lambda label: (label != ALL, label))[: MAX_CLASSES + 1]:
        cells = []
        for extent in extents:
            bound = split.codec_upper_bounds.get((label, extent))
            cells.append(_NO_DATA if bound is None else f"{bound.iou:.3f} ({bound.num_objects})")
        rows.append((label, *cells))
    note = (
        "Mean IoU of masks before and after encoding as 4 <loc> and 16 <seg> tokens (number of "
        f"objects in parentheses), on {split.stats['codec_ceiling']['images']} images drawn at "
        "random: the upper bound for every model."
    )
    return TextTable(("class", *extents), rows, note, f"Upper bound of the codec, {split.split}")


def _instances(example: Example) -> list[Instance]:
    """Return the objects of an example's reference; none if it is a text."""
    return [item for item in example.reference if isinstance(item, Instance)]


def _sample_card(split: SplitReport, example: Example, folder: Path) -> ExampleCard:
    instances = _instances(example)
    labels = list(dict.fromkeys(filter(None, (instance.label for instance in instances))))
    alt = f"{example.id}: {', '.join(labels) or 'no objects'}"
    part = f"{split.component}, {split.split}"
    return ExampleCard(
        id=example.id,
        part=part,
        badge=part,
        labels=tuple(labels),
        file_name=Path(example.images[0]).name if example.images else "",
        images=(encode_objects(example, instances, alt, folder),),
        prefix=example.prefix,
        texts=(plain_text("Target text", *example.suffixes),),
        details=(("Source", example.location),),
    )


def _augmented_card(sample: AugmentedSample, folder: Path) -> ExampleCard:
    """Return a card with the image as it is and as augmentation changes it."""
    example = sample.example
    views = [
        encode_view(example.images[0], view.transform, view.example, _view_note(view))
        for view in sample.views
    ]
    unchanged = encode_objects(example, _instances(example), example.id, folder)
    texts = [view.example.suffixes[0] for view in sample.views if view.example.suffixes]
    return ExampleCard(
        id=example.id,
        badge=example.component,
        images=(replace(unchanged, caption="as it is"), *views),
        prefix=example.prefix,
        file_name=Path(example.images[0]).name,
        texts=(plain_text("Target texts", *dict.fromkeys(texts)),) if texts else (),
        details=(("Source", example.location),),
    )


def _view_note(view: AugmentedView) -> str:
    return f"{view.num_dropped} objects cropped away" if view.num_dropped else ""
