"""Suspected label errors of a run: `label_errors.csv` and a page, the most suspicious first."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from palitune.distributed import collectives
from palitune.distributed.terminal import print_line
from palitune.errors import DataError
from palitune.evaluation.object_quality.label_errors import KINDS, Suspect, find_suspects
from palitune.evaluation.partial_predictions import PREDICTIONS_FILE
from palitune.paths import write_atomically
from palitune.records import Instance
from palitune.report.images.drawing import MAX_SHORT_SIDE, load_for_display
from palitune.report.images.inline import InlineImage, encode_image, photo_address
from palitune.report.images.overlay import REFERENCE, Layer, draw_overlay
from palitune.report.pages.cards import ExampleCard, format_instances, plain_text
from palitune.report.rendering import write_page
from palitune.report.run_reader import EvaluatedExample, get_instances, read_examples
from palitune.report.tables import TextTable

CSV_FILE, PAGE_FILE = "label_errors.csv", "label_errors.html"
_MAX_IMAGE_BYTES = 40_000
_COLUMNS = (
    *("rank", "suspicion", "kind", "id", "part", "label", "score", "x0", "y0", "x1", "y1"),
    *("reference_label", "reference_x0", "reference_y0", "reference_x1", "reference_y1"),
    *("iou", "file"),
)


def report_label_errors(folder: Path, run_folder: str, *, required: bool, max_cards: int) -> None:
    """Write the suspected label errors of a run and print their number.

    Args:
        folder: Folder of the files.
        run_folder: Run with the predictions; empty: nothing is written.
        required: Raise the DataError of a run that has none, instead of printing it.
        max_cards: Maximum number of suspects on the page.
    """
    if not run_folder or not collectives.is_main_process():
        return
    try:
        suspects = suspects_of_run(Path(run_folder))
    except DataError as error:
        if required:
            raise
        print_line(f"no search for label errors: {error}", "!", "yellow")
        return
    _write_csv(folder / CSV_FILE, suspects)
    content = {
        "title": "Suspected label errors",
        "facts": [("run", run_folder), ("suspects", f"{len(suspects):,}")],
        "sections": [("summary", "Summary"), ("images", "Objects")],
        "summary": _summary(suspects),
        "note": f"In the order of {CSV_FILE}. The dashed boxes are the reference; the other box is "
        "the prediction that contradicts it.",
        "cards": [
            _card(rank, suspect, folder) for rank, suspect in enumerate(suspects[:max_cards], 1)
        ],
    }
    write_page(folder / PAGE_FILE, "predictions.html", content, script="page.js")
    print_line(
        f"suspected label errors: {len(suspects)} ({_count_kinds(suspects)}), in "
        f"{folder / PAGE_FILE} and {CSV_FILE}"
    )


def suspects_of_run(folder: Path) -> list[Suspect]:
    """Return the suspected label errors of the predictions of a run folder.

    Raises:
        DataError: The run has no predictions, or none of boxes or masks with scores.
    """
    file = folder / PREDICTIONS_FILE
    if not file.is_file():
        raise DataError(
            f"{folder} has no {PREDICTIONS_FILE}. Set it to the folder of a finetune or evaluate "
            "run."
        )
    by_part: dict[str, list[EvaluatedExample]] = {}
    for example in read_examples(folder):
        by_part.setdefault(example.part, []).append(example)
    parts = {
        name: examples
        for name, examples in by_part.items()
        if all(example.draws_boxes for example in examples)
        and any(get_instances(example.reference) for example in examples)
    }
    if not parts:
        raise DataError(
            f"{file} must hold boxes or masks with their references to search for label errors, "
            f"got the parts {', '.join(by_part) or 'none'}. Set it to a run of a task with objects."
        )
    scores = [
        item.score
        for examples in parts.values()
        for example in examples
        for item in get_instances(example.after.value)
    ]
    if scores and all(score is None for score in scores):
        raise DataError(
            f"{file}: no predicted object has a score, which the search for label errors needs. "
            "Evaluate the adapter again."
        )
    return find_suspects(
        example.to_records(example.after) for examples in parts.values() for example in examples
    )


def _write_csv(file: Path, suspects: Sequence[Suspect]) -> None:
    with (
        write_atomically(file) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.writer(opened)
        writer.writerow(_COLUMNS)
        for rank, suspect in enumerate(suspects, 1):
            example, found = suspect.example, suspect.predicted
            writer.writerow(
                [
                    *(rank, f"{suspect.suspicion:.4f}", suspect.kind, example.id),
                    *(example.component, found.label, f"{found.score:.4f}"),
                    *(f"{side:.1f}" for side in found.box),
                    *_reference_cells(suspect.reference),
                    *(f"{suspect.iou:.3f}", example.images[0] if example.images else ""),
                ]
            )


def _reference_cells(reference: Instance | None) -> list[str]:
    if reference is None:
        return [""] * 5
    return [reference.label, *(f"{side:.1f}" for side in reference.box)]


def _card(rank: int, suspect: Suspect, folder: Path) -> ExampleCard:
    example = suspect.example
    texts = [
        plain_text(suspect.kind, KINDS[suspect.kind]),
        plain_text("predicted", format_instances([suspect.predicted])),
    ]
    if suspect.reference is not None:
        texts.append(plain_text("reference", format_instances([suspect.reference])))
    return ExampleCard(
        id=example.id,
        part=suspect.kind,
        badge=f"{rank}. {suspect.kind} {suspect.suspicion:.2f}",
        prefix=example.prefix,
        images=(_draw(suspect, folder),) if example.images else (),
        texts=tuple(texts),
        labels=(suspect.predicted.label,),
        file_name=Path(example.images[0]).name if example.images else "",
    )


def _draw(suspect: Suspect, folder: Path) -> InlineImage:
    example, path = suspect.example, suspect.example.images[0]
    layers = [
        Layer(REFERENCE, [i for i in example.reference if isinstance(i, Instance)]),
        Layer("prediction", [suspect.predicted]),
    ]
    return encode_image(
        load_for_display(path, example.size, MAX_SHORT_SIDE),
        f"{Path(path).name}: {suspect.predicted.label}, {KINDS[suspect.kind]}",
        max_bytes=_MAX_IMAGE_BYTES,
        overlay=draw_overlay(example.size, layers),
        photo=photo_address(path, folder),
    )


def _count_kinds(suspects: Sequence[Suspect]) -> str:
    counts = Counter(suspect.kind for suspect in suspects)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS)


def _summary(suspects: Sequence[Suspect]) -> TextTable:
    counts = Counter(suspect.kind for suspect in suspects)
    rows = [(f"{kind}: {meaning}", f"{counts[kind]:,}") for kind, meaning in KINDS.items()]
    note = (
        "The suspicion is the score of the prediction times 1 - IoU with the reference. For "
        "another class: score times IoU, divided by the number of suspects with both classes."
    )
    return TextTable(("kind", "suspects"), rows, note)
