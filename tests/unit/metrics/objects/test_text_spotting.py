"""Text spotting: a word counts if it is where it is and reads what it reads, whatever its case."""

import math

from palitune.metrics.objects.text_spotting import TextSpotting
from palitune.records import Example, Instance, Prediction

OPEN = Instance("Open", (0, 0, 40, 10))
DAILY = Instance("daily", (0, 20, 40, 30))
SMEAR = Instance("###", (60, 0, 99, 30), crowd=True)


def judged(predicted: tuple[Instance, ...] | None, *reference: Instance) -> dict[str, float]:
    metric = TextSpotting()
    example = Example(
        id="1",
        images=("/sign.jpg",),
        size=(100, 100),
        prefix="ocr",
        suffixes=("",),
        reference=reference,
        location="signs.jsonl:1",
    )
    own = metric.update(example, Prediction(id="1", text="", value=predicted))
    return metric.compute() | {"own": own["word_f1@.5"]}


def test_case_is_ignored_and_a_misread_word_is_only_found() -> None:
    read = (Instance("OPEN", OPEN.box), Instance("dairy", DAILY.box))
    numbers = judged(read, OPEN, DAILY)
    assert (numbers["word_precision@.5"], numbers["word_recall@.5"]) == (0.5, 0.5)
    assert (numbers["word_f1@.5"], numbers["word_box_f1@.5"]) == (0.5, 1)


def test_what_is_read_in_an_ignored_region_is_no_mistake() -> None:
    inside = Instance("smudge", (62, 2, 90, 12))
    assert judged((OPEN, inside), OPEN, SMEAR)["word_f1@.5"] == 1
    assert judged((OPEN, inside), OPEN, SMEAR)["word_box_f1@.5"] == 1
    assert judged((OPEN, inside), OPEN)["word_precision@.5"] == 0.5


def test_an_image_without_words_is_right_if_none_is_read() -> None:
    numbers = judged(())
    assert numbers["own"] == 1
    assert math.isnan(numbers["word_f1@.5"]), "of a corpus without words"
    assert judged(None, OPEN)["word_recall@.5"] == 0
