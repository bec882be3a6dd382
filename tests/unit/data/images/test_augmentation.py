"""Augmented samples are reproducible, and their texts stay true."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.dataset import ConcatDataset, Examples, load_split
from palitune.data.images.augmentation import (
    DocumentAugmentation,
    GeometricAugmentation,
    NoAugmentation,
    mentions_left_or_right,
    random_crop,
)
from palitune.data.images.transforms import IDENTITY_TRANSFORM, Affine
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.data.training_set import (
    AugmentedTrainingSet,
    TargetSampling,
    TrainingSample,
    TrainingSet,
    build_training_set,
)
from palitune.records import Instance, Row
from palitune.tasks import TASKS, Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection, PromptClasses
from palitune.tasks.referring_detection import ReferringDetection

SIZE = (90, 60)
NO_COLOR_JITTER: dict[str, float] = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def light(**shares: Any) -> GeometricAugmentation:
    """An augmentation without color jitter and with these settings only."""
    return GeometricAugmentation(**({"hflip_prob": 0, "crop_prob": 0} | NO_COLOR_JITTER | shares))


def training_set_of(
    data: Coco | Jsonl,
    task: Task,
    augmentation: GeometricAugmentation | NoAugmentation,
    seed: int = 0,
) -> TrainingSet:
    return build_training_set(
        ConcatDataset(load_split(data, task, "train")),
        TargetSampling.sample,
        seed,
        augmentation,
    )


def sample_view(
    augmentation: GeometricAugmentation, task: Task, row: Row, seed: int = 0
) -> tuple[tuple[int, int, int, int] | None, bool, Row, int]:
    [view], seen = augmentation.sample(task.example(row), row, task, Random(seed))
    return view.crop_box, view.hflip, seen.row, seen.num_dropped


def row(**columns: Any) -> Row:
    defaults: dict[str, Any] = {"id": "7", "images": ("a.png",), "size": SIZE, "location": "drawn"}
    boats = (Instance("boat", (5, 5, 25, 25)), Instance("buoy", (60, 30, 80, 50)))
    return Row(**(defaults | {"instances": boats, "classes": ("boat", "buoy", "crab")} | columns))


def test_a_sample_depends_on_seed_epoch_and_position_alone(toy_coco: Path) -> None:
    def samples(seed: int, epoch: int) -> list[TrainingSample]:
        training_set = training_set_of(
            Coco(path=str(toy_coco)), Detection(), GeometricAugmentation(), seed
        )
        training_set.set_epoch(epoch)
        return [training_set[index] for index in reversed(range(len(training_set)))]

    assert samples(0, 3) == samples(0, 3)
    assert samples(0, 3) != samples(0, 4)
    assert samples(0, 3) != samples(1, 3)


def test_another_process_samples_the_same(toy_coco: Path, tiny: Callable[[str], Path]) -> None:
    training_set = training_set_of(Coco(path=str(toy_coco)), Detection(), GeometricAugmentation())
    training_set.set_epoch(5)
    collate = Collator(AutoProcessor.from_pretrained(tiny("paligemma2"))).collate_train
    expected = list(DataLoader(training_set, 4, collate_fn=collate))  # type: ignore[arg-type]
    loader = DataLoader(
        training_set,  # type: ignore[arg-type]
        4,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    for ours, theirs in zip(expected, loader, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_augmentation_samples_are_the_examples(toy_coco: Path) -> None:
    plain = training_set_of(Coco(path=str(toy_coco)), Detection(), NoAugmentation())
    still = training_set_of(Coco(path=str(toy_coco)), Detection(), light())
    assert type(plain) is TrainingSet
    assert type(still) is AugmentedTrainingSet
    assert [plain[n].example for n in range(12)] == [still[n].example for n in range(12)]
    assert all(plain[n].transforms == () for n in range(12))
    assert all(still[n].transforms == (IDENTITY_TRANSFORM,) for n in range(12))
    assert plain.augmentation_summary(range(12)) == []


def test_an_example_is_written_for_the_transformed_row(toy_coco: Path) -> None:
    task = Detection(prompt_classes=PromptClasses.present)
    data = Coco(path=str(toy_coco))
    training_set = training_set_of(data, task, GeometricAugmentation(crop_prob=1, crop_area=0.2))
    [part] = load_split(data, task, "train")
    different = 0
    for epoch in range(4):
        training_set.set_epoch(epoch)
        for index in range(len(training_set)):
            sample = training_set[index]
            plain = part.examples[index]
            window = sample.transforms[0].crop_box
            assert window is not None
            assert sample.example.size == (window[2] - window[0], window[3] - window[1])
            assert sample.suffix == sample.example.suffixes[0]
            found = task.parse(sample.suffix, sample.example.size)
            assert found is not None
            labels = {i.label for i in found} or {"blue", "green", "red"}
            assert sample.example.prefix == "detect " + " ; ".join(sorted(labels))
            assert (sample.example.id, sample.example.component) == (plain.id, "detection")
            different += sample.example.prefix != plain.prefix
    assert different > 4


def test_the_row_is_cached(toy_coco: Path) -> None:
    data = Coco(path=str(toy_coco))
    [part] = load_split(data, Detection(), "train")
    assert isinstance(part.examples, Examples)
    assert [part.examples.row(n) for n in range(12)] == list(data.rows("train"))


def test_a_flipped_object_is_on_the_other_side() -> None:
    _, flipped, seen, _ = sample_view(light(hflip_prob=1), Detection(), row())
    assert flipped
    assert [i.box for i in seen.instances or ()] == [(65, 5, 85, 25), (10, 30, 30, 50)]


@pytest.mark.parametrize(
    "text",
    [
        "the boat on the left", "Right one", "the leftmost buoy", "turn clockwise", "anticlockwise",
        "le bateau à gauche", "das Boot links", "el barco de la derecha", "a destra", "左边的船",
    ],
)  # fmt: skip
def test_an_example_with_a_word_for_a_side_is_never_flipped(text: str) -> None:
    task = ReferringDetection()
    named = row(expression=text, instances=(Instance("boat", (5, 5, 25, 25)),))
    assert mentions_left_or_right(task.example(named))
    assert not sample_view(light(hflip_prob=1), task, named)[1]
    assert not sample_view(light(hflip_prob=1), Caption(), row(captions=("a boat", text)))[1]
    assert not sample_view(light(hflip_prob=1), Detection(classes=["boat", text]), row())[1]


@pytest.mark.parametrize("text", ["the red boat", "cleft", "a birthright", "el destructor"])
def test_similar_words_do_not_prevent_a_flip(text: str) -> None:
    named = row(expression=text, instances=(Instance("boat", (5, 5, 25, 25)),))
    assert sample_view(light(hflip_prob=1), ReferringDetection(), named)[1]


@pytest.mark.parametrize("name", ["ocr", "text_spotting", "vqa", "text"])
def test_tasks_that_may_read_text_are_neither_flipped_nor_cropped(name: str) -> None:
    assert not TASKS[name].allow_flip
    written = row(
        text="7", question="q", answers=("a",), prefix="p" if name == "text" else None,
        suffix="s" if name == "text" else None,
    )  # fmt: skip
    for seed in range(20):
        window, flipped, seen, _ = sample_view(
            light(hflip_prob=1, crop_prob=0.5, square_crop_prob=0.5), TASKS[name](), written, seed
        )
        assert (window, flipped) == (None, False)
        assert seen == written


def test_only_tasks_that_write_all_boxes_are_cropped() -> None:
    assert {name for name, task in TASKS.items() if task.allow_crop} == {
        "detection",
        "segmentation",
    }


@pytest.mark.parametrize(
    "fixed",
    [
        {"suffix": "<loc0000><loc0000><loc0100><loc0100> boat"},
        {"prefix": "<loc0000><loc0000><loc0100><loc0100> what is this?"},
    ],
)
def test_rows_with_location_tokens_are_not_transformed(fixed: dict[str, Any]) -> None:
    fixed_row = row(**fixed)
    augmentation = GeometricAugmentation(hflip_prob=1, crop_prob=1)
    [view], seen = augmentation.sample(
        Detection().example(fixed_row), fixed_row, Detection(), Random(0)
    )
    assert not view.transforms_boxes()
    assert view.color_jitter != IDENTITY_TRANSFORM.color_jitter
    assert seen == (fixed_row, 0)


def test_several_images_have_different_colors_and_all_are_flipped_or_none() -> None:
    video = row(images=("a.png", "b.png", "c.png"), captions=("a boat",), instances=None)
    flipped = set()
    for seed in range(20):
        views, seen = GeometricAugmentation(crop_prob=1).sample(
            Caption().example(video), video, Caption(), Random(seed)
        )
        assert len({view.color_jitter for view in views}) == 3
        assert {view.crop_box for view in views} == {None}
        [hflip] = {view.hflip for view in views}
        flipped.add(hflip)
        assert seen == (video, 0)
    assert flipped == {True, False}


def test_a_crop_without_objects_is_not_made_if_negatives_are_excluded() -> None:
    bare = light(crop_prob=1, crop_area=0.01, min_visible=1)
    kept = [sample_view(bare, Detection(), row(), seed) for seed in range(60)]
    assert any(not seen.instances and cut == 2 for _, _, seen, cut in kept)
    for seed in range(60):
        window, _, seen, _ = sample_view(bare, Detection(negative_ratio=0), row(), seed)
        assert seen.instances
        assert (window is None) == (not kept[seed][2].instances)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.floats(0.01, 1),
    st.integers(0, 1000),
)
def test_a_crop_is_inside_the_image_and_large_enough(
    size: tuple[int, int], least: float, seed: int
) -> None:
    x0, y0, x1, y1 = random_crop(size, least, Random(seed))
    width, height = x1 - x0, y1 - y0
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert (width + 0.5) * (height + 0.5) >= least * size[0] * size[1]
    aspect = (width / size[0]) / (height / size[1])
    slack = (1 + 1 / width) * (1 + 1 / height)
    if min(width, height) > 1:  # a crop that is thinner than a pixel is widened to one
        assert 3 / 4 / slack <= aspect <= 4 / 3 * slack


@pytest.mark.parametrize(("share", "side"), [("pad_prob", 90), ("square_crop_prob", 60)])
def test_padding_and_square_crops_keep_the_aspect_ratio(share: str, side: int) -> None:
    corners = set()
    for seed in range(40):
        window, _, seen, _ = sample_view(light(**{share: 1}), Detection(), row(), seed)
        assert window is not None
        assert seen.size == (window[2] - window[0], window[3] - window[1]) == (side, side)
        corners.add(window[:2])
    assert len(corners) > 5
    assert sample_view(light(**{share: 1}), Detection(), row(size=(90, 90)))[0] is None


def test_transforms_have_their_probabilities(toy_coco: Path) -> None:
    mixed = light(hflip_prob=0.3, crop_prob=0.4, pad_prob=0.2)
    views = [sample_view(mixed, Detection(), row(), seed) for seed in range(2000)]
    flipped = sum(view[1] for view in views) / 2000
    padded = sum(view[0] is not None and view[0][3] - view[0][1] == 90 for view in views) / 2000
    windows = sum(view[0] is not None for view in views) / 2000
    assert (flipped, padded, windows) == pytest.approx((0.3, 0.2, 0.6), abs=0.04)


def test_dropped_objects_are_counted_in_the_summary(toy_coco: Path) -> None:
    training_set = training_set_of(
        Coco(path=str(toy_coco)), Detection(), light(crop_prob=1, crop_area=0.2)
    )
    assert isinstance(training_set, AugmentedTrainingSet)
    num_dropped = sum(training_set.augmented_example(index)[2].num_dropped for index in range(12))
    assert num_dropped > 0
    assert training_set.augmentation_summary(range(12)) == [
        "augmentation: of 12 samples, 0 are flipped, 12 are cropped or padded, 0 are rotated or "
        f"stretched; {num_dropped} objects are cropped away"
    ]


def test_only_examples_without_locations_are_warped() -> None:
    def warps(task: Task, **columns: Any) -> set[bool]:
        plain_row = row(**columns)
        example, page = task.example(plain_row), DocumentAugmentation()
        views = [page.sample(example, plain_row, task, Random(seed))[0][0] for seed in range(5)]
        assert all(view.color_jitter != IDENTITY_TRANSFORM.color_jitter for view in views)
        return {view.affine != Affine() for view in views}

    boat = "<loc0100><loc0100><loc0200><loc0200> boat"
    assert warps(TASKS["vqa"](), question="how many?", answers=("2",)) == {True}
    assert warps(Detection()) == {False}
    assert warps(TASKS["vqa"](), prefix="what is at <loc0100>?", suffix="a boat") == {False}
    assert warps(TASKS["vqa"](), prefix="where is the boat?", suffix=boat) == {False}


def test_prompts_of_an_image_share_a_transform_and_its_repeats_do_not(toy_coco: Path) -> None:
    [part] = load_split(Coco(path=str(toy_coco)), Detection(), "train")
    twice = ConcatDataset([replace(part, name=name, repeat=2) for name in ("one", "two")])
    training_set = build_training_set(
        twice, TargetSampling.first, 0, DocumentAugmentation(), share_per_image=True
    )
    count = len(part.examples)
    views = [training_set[index].transforms for index in range(4 * count)]
    assert len({training_set[index].example.images for index in range(count)}) == count
    assert views[: 2 * count] == views[2 * count :]
    assert len(set(views)) == 2 * count
    training_set.set_epoch(1)
    assert not set(views) & {training_set[index].transforms for index in range(4 * count)}


def test_a_page_is_rotated_sheared_and_stretched_within_the_limits() -> None:
    page_row = row(question="how many?", answers=("2",))
    example = TASKS["vqa"]().example(page_row)
    page = DocumentAugmentation(degrees=3, shear=0.1, aspect=0.2)
    drawn = [
        page.sample(example, page_row, TASKS["vqa"](), Random(seed))[0][0].affine
        for seed in range(500)
    ]
    for values, middle, most in (
        ([warp.degrees for warp in drawn], 0, 3),
        ([warp.shear for warp in drawn], 0, 0.1),
        ([warp.scale_x for warp in drawn], 1, 0.2),
        ([warp.scale_y for warp in drawn], 1, 0.2),
    ):
        assert min(values) >= middle - most
        assert max(values) <= middle + most
        assert max(values) - min(values) > 1.8 * most
    assert len({warp.scale_x / warp.scale_y for warp in drawn}) == 500


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hflip_prob": 1.1},
            r"^augmentation\.hflip_prob must be at least 0 and at most 1, got 1\.1\.$",
        ),
        ({"hue": 0.6}, r"^augmentation\.hue must be at least 0 and at most 0\.5, got 0\.6"),
        ({"min_visible": 0}, r"^augmentation\.min_visible must be above 0 and at most 1, got 0"),
        ({"crop_prob": 0.5, "pad_prob": 0.6}, r"the sum of crop_prob, .* at most 1, got 1\.1"),
    ],
)
def test_invalid_probabilities_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeometricAugmentation(**settings)
