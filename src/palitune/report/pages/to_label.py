"""The images most worth labeling: `to_label.csv` and a page in the same order."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palitune.distributed import collectives
from palitune.distributed.terminal import print_line
from palitune.evaluation.active_learning.ranking import RankBy, RankedImage
from palitune.paths import write_atomically
from palitune.records import Example, Prediction
from palitune.report.pages.cards import ExampleCard
from palitune.report.pages.predictions import answer_status, predicted_instances, prediction_card
from palitune.report.rendering import write_page
from palitune.report.tables import TextTable

CSV_FILE, PAGE_FILE = "to_label.csv", "to_label.html"
_COLUMNS = ("rank", "image", "uncertainty", "confidence", "margin", "distance", "file")


def write_ranking(
    folder: Path,
    ranked: Sequence[RankedImage],
    predicted: Sequence[tuple[Example, Prediction]],
    by: RankBy,
    max_cards: int,
) -> None:
    """Write `to_label.csv` and `to_label.html`, and print their place.

    Args:
        folder: Run folder.
        ranked: The images in their order.
        predicted: Examples with their predictions, which `ranked` refers to.
        by: Criterion of the ranking.
        max_cards: Maximum number of images on the page.
    """
    if not collectives.is_main_process():
        return
    with (
        write_atomically(folder / CSV_FILE) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as opened,
    ):
        writer = csv.writer(opened)
        writer.writerow(_COLUMNS)
        for rank, image in enumerate(ranked, 1):
            example, _ = predicted[image.index]
            numbers = (image.uncertainty, image.confidence, image.margin, image.distance)
            writer.writerow([rank, example.id, *map(_format, numbers), example.images[0]])
    cards = [
        _ranked_card(rank, image, predicted[image.index], folder)
        for rank, image in enumerate(ranked[:max_cards], 1)
    ]
    content = {
        "title": "Images to label",
        "facts": [("ranked by", by.value), ("images", f"{len(predicted):,}")],
        "sections": [("summary", "Summary"), ("images", "Images")],
        "summary": _summary(ranked),
        "note": f"In the order of {CSV_FILE}, the most valuable image first."
        + (f" The file has {len(ranked):,} images." if len(cards) < len(ranked) else ""),
        "cards": cards,
    }
    write_page(folder / PAGE_FILE, "predictions.html", content, script="page.js")
    print_line(f"to label: {folder / CSV_FILE}, {folder / PAGE_FILE}")


def _format(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def _ranked_card(
    rank: int, image: RankedImage, predicted: tuple[Example, Prediction], folder: Path
) -> ExampleCard:
    example, prediction = predicted
    instances = predicted_instances(prediction)
    is_object_task = not isinstance(prediction.value, str)
    status = answer_status(prediction, is_object_task)
    card = prediction_card(example, prediction, instances, status, folder)
    numbers = [
        (name, _format(number))
        for name, number in (
            ("Uncertainty", image.uncertainty),
            ("Confidence", image.confidence),
            ("Margin to the base model", image.margin),
            ("Distance to the images before it", image.distance),
        )
        if number is not None
    ]
    badge = f"{rank}. uncertainty {image.uncertainty:.2f}"
    return replace(card, badge=badge, details=(*card.details, *numbers))


def _summary(ranked: Sequence[RankedImage]) -> TextTable:
    """Return minimum, median and maximum of the values of the ranking."""
    rows = []
    for name in ("uncertainty", "confidence", "margin", "distance"):
        values = sorted(v for image in ranked if (v := getattr(image, name)) is not None)
        if values:
            cells = (values[0], values[len(values) // 2], values[-1])
            rows.append((name, *(f"{value:.3f}" for value in cells)))
    note = (
        "Uncertainty: 1 - confidence of the least confident object or of the answer, averaged with "
        "the share of images with a larger margin. Margin: log-likelihood of the answer per token, "
        "adapter minus base model. Distance: of the vision features to the nearest image before it."
    )
    return TextTable(("value", "minimum", "median", "maximum"), rows, note)
