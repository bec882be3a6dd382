"""Segmentation: what it shares with detection, and what it says of objects without a mask."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from palitune.codec import masks
from palitune.codec.grammar import ObjectGrammar
from palitune.codec.mask_vqvae import MaskVQVAE
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.detection import Detection, ObjectOrder, PromptClasses
from palitune.tasks.segmentation import Segmentation

from support.toy_data import toy_mask

SIZE = (120, 90)
BOAT, BUOY = (
    Instance(label, box, mask=toy_mask(SIZE, box))
    for label, box in [("boat", (20, 50, 60, 80)), ("buoy", (30, 20, 44, 40))]
)
SWARM = Instance("boat", (0, 0, 100, 10), mask=toy_mask(SIZE, (0, 0, 100, 10)), crowd=True)
ROW = Row(
    id="17",
    images=("/harbour.jpg",),
    size=SIZE,
    location="boats.json, image id 17",
    instances=(BOAT, BUOY, SWARM),
    classes=("boat", "buoy", "whale"),
)


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classes": ["buoy"]},
        {"prompt_classes": PromptClasses.present},
        {"order": ObjectOrder.given},
    ],
)
def test_segmentation_asks_and_orders_as_detection_does(settings: dict[str, Any]) -> None:
    segmented, detected = Segmentation(**settings).example(ROW), Detection(**settings).example(ROW)
    assert segmented.prefix == detected.prefix.replace("detect", "segment")
    assert segmented.reference == detected.reference
    codec = masks.load_codec("embedded")
    written = [i for i in segmented.reference if isinstance(i, Instance) and not i.crowd]
    assert segmented.suffixes == (masks.encode(written, SIZE, codec),)


def test_a_prediction_carries_masks_of_the_size_of_the_image() -> None:
    task = Segmentation()
    [suffix] = task.example(ROW).suffixes
    value = task.parse(suffix, SIZE, confidence=lambda start, end: 0.25)
    assert value is not None
    assert [(i.label, i.score, i.mask is not None and i.mask.shape) for i in value] == [
        ("buoy", 0.25, (90, 120)),
        ("boat", 0.25, (90, 120)),
    ]


def test_text_without_one_readable_object_is_malformed() -> None:
    task = Segmentation()
    [suffix] = task.example(ROW).suffixes
    assert task.parse("", SIZE) == ()
    assert task.parse("<loc0001><loc0002><loc0300><loc0400> boat", SIZE) is None
    value = task.parse(f"a harbour ; {suffix} ; <loc0001>", SIZE)
    assert value is not None
    assert [instance.label for instance in value] == ["buoy", "boat"]


def test_a_suffix_of_the_row_is_the_reference() -> None:
    task = Segmentation()
    [suffix] = task.example(ROW).suffixes
    example = task.example(with_columns(suffix=suffix, instances=None))
    assert (example.suffixes, example.reference) == ((suffix,), task.parse(suffix, SIZE))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"instances": None}, "column 'instances' is missing, but this task requires it"),
        (
            {"instances": (dataclasses.replace(BOAT, mask=None),)},
            "object 'boat' has no mask; segmentation needs one for each",
        ),
        (
            {"instances": (dataclasses.replace(SWARM, mask=None),)},
            "object 'boat' has no mask; segmentation needs one for each",
        ),
        (
            {"instances": (dataclasses.replace(BOAT, mask=np.ones((9, 8), dtype=bool)),)},
            "the mask of object 'boat' has 8x9 px, the image 120x90",
        ),
        (
            {"suffix": "<loc0001><loc0002><loc0300><loc0400> boat"},
            "suffix '<loc0001><loc0002><loc0300><loc0400> boat' is not '<locY0><locX0><locY1>"
            "<locX1> 16 <seg...> label ; ...'",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_place(
    columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as refusal:
        Segmentation().example(with_columns(**columns))
    assert str(refusal.value).startswith(f"boats.json, image id 17: {message}")


def test_another_codec_writes_other_tokens(tmp_path: Path) -> None:
    torch.manual_seed(1)
    file = tmp_path / "mine.safetensors"
    save_file(dict(MaskVQVAE(8).state_dict()), file)
    mine, own = Segmentation(codec=str(file)), Segmentation()
    assert mine.input_files() == [file]
    assert own.input_files() == [masks.codec_path("embedded")]
    assert mine.warnings() == []
    assert "unknown to the released checkpoints" in own.warnings()[0]
    assert mine.example(ROW).suffixes != own.example(ROW).suffixes


def test_a_codec_that_is_not_there_is_refused_with_where_to_get_it() -> None:
    with pytest.raises(ValueError, match=r"gs://big_vision/paligemma/vae-oid\.npz"):
        Segmentation(codec="vae-oid.npz")


def test_an_answer_has_masks_and_the_labels_of_its_prompt() -> None:
    allowed = ObjectGrammar(("boat", "buoy"), with_masks=True, max_objects=2)
    assert Segmentation(max_objects=2).grammar("segment boat ; buoy") == allowed
    assert Segmentation().grammar("detect boat") is None


def test_an_object_without_a_whole_mask_cannot_be_read() -> None:
    box = "<loc0001><loc0002><loc0003><loc0004>"
    text = f"{box}{'<seg001>' * 16} boat ; {box}{'<seg001>' * 15} boat ; {box} boat"
    assert Segmentation().count_malformed(text) == 2
