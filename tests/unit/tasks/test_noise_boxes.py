"""Noise fills a suffix up; it is told apart, its corners carry no loss, and it is no object."""

import re
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from palitune.codec.grammar import ObjectGrammar
from palitune.data.collator import IGNORE_INDEX, Collator
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.records import Example, Instance, Row
from palitune.tasks.detection import Detection, ObjectOrder
from palitune.tasks.noise_boxes import add_noise_boxes, noise_token_spans
from palitune.tasks.segmentation import Segmentation

from support.tiny_models import build_processor

BOAT = "<loc0050><loc0020><loc0060><loc0030> boat"
BUOY = "<loc0020><loc0030><loc0030><loc0040> buoy"
NOISE = "<loc0001><loc0002><loc0003><loc0004> <noise>"
ROW = Row(
    id="17",
    images=("/harbour.jpg",),
    size=(1023, 1023),
    location="boats.json, image id 17",
    instances=(Instance("boat", (20, 50, 30, 60)), Instance("buoy", (30, 20, 40, 30))),
)


def detection(**told: Any) -> Detection:
    settings = {"classes": ["boat", "buoy"], "prompt": "detect all classes", "pad_objects_to": 5}
    return Detection(**(settings | told))


def test_a_suffix_names_all_objects_and_is_filled_up_with_noise() -> None:
    example = detection().example(ROW)
    assert example.prefix == "detect all classes"
    first, second, *others = example.suffixes[0].split(" ; ")
    assert (first, second) == (BUOY, BOAT)
    assert len(others) == 3
    assert all(re.fullmatch(r"(<loc[0-9]{4}>){4} <noise>", other) for other in others)
    assert example.reference == detection(pad_objects_to=None).example(ROW).reference


def test_noise_is_read_as_no_object() -> None:
    task = detection()
    example = task.example(ROW)
    assert task.parse(example.suffixes[0], ROW.size) == example.reference
    assert task.parse(NOISE, ROW.size) == ()
    [only] = detection(pad_objects_to=None).parse(NOISE, ROW.size) or ()
    assert only.label == "<noise>"


def test_every_visit_draws_other_noise_and_another_order_of_as_many_objects() -> None:
    task = detection(order=ObjectOrder.random)
    visits = TrainingSet(
        [replace(task.example(ROW), component="d")], TargetSampling.first, 0, {"d": task}
    )
    seen = []
    for epoch in range(12):
        visits.set_epoch(epoch)
        seen.append(visits[0].suffix)
        assert visits[0].suffix == seen[-1]
        assert set(task.parse(seen[-1], ROW.size) or ()) == set(visits[0].example.reference)
        assert seen[-1].count(" ; ") == 4
    assert len(set(seen)) == 12
    assert {text.split()[1] for text in seen} == {"boat", "buoy"}


def test_boxes_of_noise_can_be_written_and_are_filled_up_to_a_count_only() -> None:
    objects = [Instance("boat", (0, 0, 9, 9))] * 3
    assert add_noise_boxes(objects, 2, "x", (640, 480), Random(0)) == objects
    for noise in add_noise_boxes([], 500, "x", (640, 480), Random(0)):
        x0, y0, x1, y1 = noise.box
        assert 0 <= x0 < x1 <= 640
        assert 0 <= y0 < y1 <= 480


def test_corners_are_those_of_noise_alone() -> None:
    text = f"{BOAT} ; {NOISE} ; {BUOY} ; {NOISE}"
    found = noise_token_spans(text, "<noise>")
    assert [text[start:end] for start, end in found] == ["<loc0001><loc0002><loc0003><loc0004>"] * 2
    assert noise_token_spans(f"{NOISE}less ; {BOAT}", "<noise>") == ()


def test_no_loss_is_taken_on_the_corners_of_noise_and_it_is_on_all_else(
    examples: list[Example],
) -> None:
    tokenizer = build_processor().tokenizer
    text = f"{BOAT} ; {NOISE} ; {BUOY}"
    example = replace(
        examples[0], suffixes=(text,), no_loss_spans=noise_token_spans(text, "<noise>")
    )
    batch = Collator(build_processor()).collate_train(
        [TrainingSample(example, text), TrainingSample(examples[1], "a")]
    )
    types, labels = batch["token_type_ids"][0], batch["labels"][0]
    assert tokenizer.decode(batch["input_ids"][0][types > 0][:-1]) == text
    silent = (types > 0) & (labels == IGNORE_INDEX)
    assert tokenizer.decode(batch["input_ids"][0][silent]) == NOISE.split()[0]
    learned = tokenizer.decode(labels[labels != IGNORE_INDEX])
    assert learned == text.replace(NOISE.split()[0], "") + tokenizer.eos_token


def test_answers_hold_as_many_objects_of_the_classes_and_no_noise() -> None:
    task = detection()
    assert task.requires_grammar
    assert task.grammar("detect all classes") == ObjectGrammar(
        ("boat", "buoy"), max_objects=5, allow_empty=False, min_objects=5
    )
    assert not Detection().requires_grammar
    assert Detection(prompt="detect all classes").grammar("detect all classes") is None


def test_the_probability_of_the_label_is_the_score() -> None:
    text = f"{BOAT} ; {BUOY}"
    spans: list[str] = []

    def confidence(start: int, end: int) -> float:
        spans.append(text[start:end])
        return 0.25

    found = detection().parse(text, ROW.size, confidence)
    assert spans == ["boat", "buoy"]
    assert [instance.score for instance in found or ()] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            {"pad_objects_to": 0},
            r"^task\.pad_objects_to must be at least 1, got 0\.$",
        ),
        (
            {"max_objects": 9},
            r"^task\.pad_objects_to must be at least task\.max_objects=9, got 5\.$",
        ),
        (
            {"classes": []},
            r"^task\.pad_objects_to requires the classes .* Set task\.classes=\[\.\.\.\]\.$",
        ),
        ({"noise": "boat"}, r"^task\.noise must be a label that is no class, got 'boat'\.$"),
        ({"noise": "a ; b"}, r"^task\.noise must be a label that is no class, got 'a ; b'\.$"),
    ],
)
def test_settings_that_noise_cannot_go_with_are_refused(
    told: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        detection(**told)


def test_masks_are_not_filled_up() -> None:
    with pytest.raises(ValueError, match=r"^task\.pad_objects_to must be null for masks"):
        Segmentation(classes=["boat"], pad_objects_to=5)
