"""Visits under augmentation: the same draws everywhere, texts that stay true, none that lie."""

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
from palitune.data.dataset import Examples, concatenate_datasets, load_split
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
STILL: dict[str, float] = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def light(**shares: Any) -> GeometricAugmentation:
    """Only what is asked for."""
    return GeometricAugmentation(**({"hflip_prob": 0, "crop_prob": 0} | STILL | shares))


def visits_of(
    data: Coco | Jsonl,
    task: Task,
    augmentation: GeometricAugmentation | NoAugmentation,
    seed: int = 0,
) -> TrainingSet:
    return build_training_set(
        concatenate_datasets(load_split(data, task, "train")),
        TargetSampling.sample,
        seed,
        augmentation,
    )


def drawn(
    augmentation: GeometricAugmentation, task: Task, row: Row, chance: int = 0
) -> tuple[tuple[int, int, int, int] | None, bool, Row, int]:
    [view], seen = augmentation.sample(task.example(row), row, task, Random(chance))
    return view.crop_box, view.hflip, seen.row, seen.num_dropped


def row(**columns: Any) -> Row:
    given: dict[str, Any] = {"id": "7", "images": ("a.png",), "size": SIZE, "location": "drawn"}
    boats = (Instance("boat", (5, 5, 25, 25)), Instance("buoy", (60, 30, 80, 50)))
    return Row(**(given | {"instances": boats, "classes": ("boat", "buoy", "crab")} | columns))


def test_a_visit_depends_on_seed_epoch_and_position_alone(toy_coco: Path) -> None:
    def looks(seed: int, epoch: int) -> list[TrainingSample]:
        visits = visits_of(Coco(path=str(toy_coco)), Detection(), GeometricAugmentation(), seed)
        visits.set_epoch(epoch)
        return [visits[index] for index in reversed(range(len(visits)))]

    assert looks(0, 3) == looks(0, 3)
    assert looks(0, 3) != looks(0, 4)
    assert looks(0, 3) != looks(1, 3)


def test_another_process_draws_the_same(toy_coco: Path, tiny: Callable[[str], Path]) -> None:
    visits = visits_of(Coco(path=str(toy_coco)), Detection(), GeometricAugmentation())
    visits.set_epoch(5)
    collate = Collator(AutoProcessor.from_pretrained(tiny("paligemma2"))).collate_train
    here = list(DataLoader(visits, 4, collate_fn=collate))  # type: ignore[arg-type]
    there = DataLoader(
        visits,  # type: ignore[arg-type]
        4,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    for ours, theirs in zip(here, there, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_augmentation_visits_are_the_examples(toy_coco: Path) -> None:
    plain = visits_of(Coco(path=str(toy_coco)), Detection(), NoAugmentation())
    still = visits_of(Coco(path=str(toy_coco)), Detection(), light())
    assert type(plain) is TrainingSet
    assert type(still) is AugmentedTrainingSet
    assert [plain[n].example for n in range(12)] == [still[n].example for n in range(12)]
    assert all(plain[n].transforms == () for n in range(12))
    assert all(still[n].transforms == (IDENTITY_TRANSFORM,) for n in range(12))
    assert plain.augmentation_summary(range(12)) == []


def test_an_example_is_written_anew_of_what_is_seen(toy_coco: Path) -> None:
    task = Detection(prompt_classes=PromptClasses.present)
    data = Coco(path=str(toy_coco))
    visits = visits_of(data, task, GeometricAugmentation(crop_prob=1, crop_area=0.2))
    [part] = load_split(data, task, "train")
    different = 0
    for epoch in range(4):
        visits.set_epoch(epoch)
        for index in range(len(visits)):
            visit = visits[index]
            plain = part.examples[index]
            window = visit.transforms[0].crop_box
            assert window is not None
            assert visit.example.size == (window[2] - window[0], window[3] - window[1])
            assert visit.suffix == visit.example.suffixes[0]
            found = task.parse(visit.suffix, visit.example.size)
            assert found is not None
            labels = {i.label for i in found} or {"blue", "green", "red"}
            assert visit.example.prefix == "detect " + " ; ".join(sorted(labels))
            assert (visit.example.id, visit.example.component) == (plain.id, "detection")
            different += visit.example.prefix != plain.prefix
    assert different > 4


def test_the_row_comes_back_from_the_cache(toy_coco: Path) -> None:
    data = Coco(path=str(toy_coco))
    [part] = load_split(data, Detection(), "train")
    assert isinstance(part.examples, Examples)
    assert [part.examples.row(n) for n in range(12)] == list(data.rows("train"))


def test_a_mirrored_object_is_written_on_the_other_side() -> None:
    _, mirrored, seen, _ = drawn(light(hflip_prob=1), Detection(), row())
    assert mirrored
    assert [i.box for i in seen.instances or ()] == [(65, 5, 85, 25), (10, 30, 30, 50)]


@pytest.mark.parametrize(
    "text",
    [
        "the boat on the left", "Right one", "the leftmost buoy", "turn clockwise", "anticlockwise",
        "le bateau à gauche", "das Boot links", "el barco de la derecha", "a destra", "左边的船",
    ],
)  # fmt: skip
def test_who_speaks_of_sides_is_never_mirrored(text: str) -> None:
    task = ReferringDetection()
    said = row(expression=text, instances=(Instance("boat", (5, 5, 25, 25)),))
    assert mentions_left_or_right(task.example(said))
    assert not drawn(light(hflip_prob=1), task, said)[1]
    assert not drawn(light(hflip_prob=1), Caption(), row(captions=("a boat", text)))[1]
    assert not drawn(light(hflip_prob=1), Detection(classes=["boat", text]), row())[1]


@pytest.mark.parametrize("text", ["the red boat", "cleft", "a birthright", "el destructor"])
def test_who_does_not_is(text: str) -> None:
    said = row(expression=text, instances=(Instance("boat", (5, 5, 25, 25)),))
    assert drawn(light(hflip_prob=1), ReferringDetection(), said)[1]


@pytest.mark.parametrize("name", ["ocr", "text_spotting", "vqa", "text"])
def test_tasks_that_may_read_text_are_neither_mirrored_nor_cropped(name: str) -> None:
    assert not TASKS[name].allow_flip
    written = row(
        text="7", question="q", answers=("a",), prefix="p" if name == "text" else None,
        suffix="s" if name == "text" else None,
    )  # fmt: skip
    for chance in range(20):
        window, mirrored, seen, _ = drawn(
            light(hflip_prob=1, crop_prob=0.5, square_crop_prob=0.5), TASKS[name](), written, chance
        )
        assert (window, mirrored) == (None, False)
        assert seen == written


def test_only_tasks_whose_boxes_follow_are_cropped() -> None:
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
def test_rows_with_places_written_already_do_not_move(fixed: dict[str, Any]) -> None:
    given = row(**fixed)
    augmentation = GeometricAugmentation(hflip_prob=1, crop_prob=1)
    [view], seen = augmentation.sample(Detection().example(given), given, Detection(), Random(0))
    assert not view.transforms_boxes()
    assert view.color_jitter != IDENTITY_TRANSFORM.color_jitter
    assert seen == (given, 0)


def test_every_one_of_several_images_has_colours_of_its_own_and_all_are_mirrored_or_none() -> None:
    video = row(images=("a.png", "b.png", "c.png"), captions=("a boat",), instances=None)
    mirrored = set()
    for chance in range(20):
        views, seen = GeometricAugmentation(crop_prob=1).sample(
            Caption().example(video), video, Caption(), Random(chance)
        )
        assert len({view.color_jitter for view in views}) == 3
        assert {view.crop_box for view in views} == {None}
        [whether] = {view.hflip for view in views}
        mirrored.add(whether)
        assert seen == (video, 0)
    assert mirrored == {True, False}


def test_a_crop_that_leaves_nothing_where_none_is_wanted_is_not_made() -> None:
    bare = light(crop_prob=1, crop_area=0.01, min_visible=1)
    kept = [drawn(bare, Detection(), row(), chance) for chance in range(60)]
    assert any(not seen.instances and cut == 2 for _, _, seen, cut in kept)
    for chance in range(60):
        window, _, seen, _ = drawn(bare, Detection(negative_ratio=0), row(), chance)
        assert seen.instances
        assert (window is None) == (not kept[chance][2].instances)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.floats(0.01, 1),
    st.integers(0, 1000),
)
def test_a_crop_lies_inside_and_shows_the_share_it_should(
    size: tuple[int, int], least: float, chance: int
) -> None:
    x0, y0, x1, y1 = random_crop(size, least, Random(chance))
    width, height = x1 - x0, y1 - y0
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]
    assert (width + 0.5) * (height + 0.5) >= least * size[0] * size[1]
    aspect = (width / size[0]) / (height / size[1])
    slack = (1 + 1 / width) * (1 + 1 / height)
    if min(width, height) > 1:  # a crop that is thinner than a pixel is widened to one
        assert 3 / 4 / slack <= aspect <= 4 / 3 * slack


@pytest.mark.parametrize(("share", "side"), [("pad_prob", 90), ("square_crop_prob", 60)])
def test_the_aspect_is_kept_by_padding_or_by_a_square(share: str, side: int) -> None:
    corners = set()
    for chance in range(40):
        window, _, seen, _ = drawn(light(**{share: 1}), Detection(), row(), chance)
        assert window is not None
        assert seen.size == (window[2] - window[0], window[3] - window[1]) == (side, side)
        corners.add(window[:2])
    assert len(corners) > 5
    assert drawn(light(**{share: 1}), Detection(), row(size=(90, 90)))[0] is None


def test_shares_are_what_they_say(toy_coco: Path) -> None:
    mixed = light(hflip_prob=0.3, crop_prob=0.4, pad_prob=0.2)
    looks = [drawn(mixed, Detection(), row(), chance) for chance in range(2000)]
    mirrored = sum(look[1] for look in looks) / 2000
    padded = sum(look[0] is not None and look[0][3] - look[0][1] == 90 for look in looks) / 2000
    windows = sum(look[0] is not None for look in looks) / 2000
    assert (mirrored, padded, windows) == pytest.approx((0.3, 0.2, 0.6), abs=0.04)


def test_what_is_cut_away_is_told(toy_coco: Path) -> None:
    visits = visits_of(Coco(path=str(toy_coco)), Detection(), light(crop_prob=1, crop_area=0.2))
    assert isinstance(visits, AugmentedTrainingSet)
    cut = sum(visits.augmented_example(index)[2].num_dropped for index in range(12))
    assert cut > 0
    assert visits.augmentation_summary(range(12)) == [
        "augmentation: of 12 visits 0 are mirrored, 12 see the image cropped or padded, 0 see it "
        f"turned or stretched; {cut} objects are cut away"
    ]


def test_only_examples_that_tell_no_place_are_warped() -> None:
    def warps(task: Task, **columns: Any) -> set[bool]:
        given = row(**columns)
        example, page = task.example(given), DocumentAugmentation()
        views = [page.sample(example, given, task, Random(seed))[0][0] for seed in range(5)]
        assert all(view.color_jitter != IDENTITY_TRANSFORM.color_jitter for view in views)
        return {view.affine != Affine() for view in views}

    boat = "<loc0100><loc0100><loc0200><loc0200> boat"
    assert warps(TASKS["vqa"](), question="how many?", answers=("2",)) == {True}
    assert warps(Detection()) == {False}
    assert warps(TASKS["vqa"](), prefix="what is at <loc0100>?", suffix="a boat") == {False}
    assert warps(TASKS["vqa"](), prefix="where is the boat?", suffix=boat) == {False}


def test_prompts_of_an_image_share_a_view_and_its_repeats_do_not(toy_coco: Path) -> None:
    [part] = load_split(Coco(path=str(toy_coco)), Detection(), "train")
    twice = concatenate_datasets([replace(part, name=name, repeat=2) for name in ("one", "two")])
    visits = build_training_set(
        twice, TargetSampling.first, 0, DocumentAugmentation(), share_per_image=True
    )
    count = len(part.examples)
    views = [visits[index].transforms for index in range(4 * count)]
    assert len({visits[index].example.images for index in range(count)}) == count
    assert views[: 2 * count] == views[2 * count :]
    assert len(set(views)) == 2 * count
    visits.set_epoch(1)
    assert not set(views) & {visits[index].transforms for index in range(4 * count)}


def test_a_page_is_turned_slanted_and_stretched_no_more_than_asked() -> None:
    given = row(question="how many?", answers=("2",))
    example = TASKS["vqa"]().example(given)
    page = DocumentAugmentation(degrees=3, shear=0.1, aspect=0.2)
    drawn = [
        page.sample(example, given, TASKS["vqa"](), Random(seed))[0][0].affine
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
    ("wrong", "said"),
    [
        ({"hflip_prob": 1.1}, r"^augmentation\.hflip_prob must lie in \[0, 1\], not 1\.1$"),
        ({"hue": 0.6}, r"^augmentation\.hue must lie in \[0, 0\.5\]"),
        ({"min_visible": 0}, r"^augmentation\.min_visible must lie in"),
        ({"crop_prob": 0.5, "pad_prob": 0.6}, r"exclude each other, so that together .* not 1\.1$"),
    ],
)
def test_shares_that_cannot_be_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GeometricAugmentation(**wrong)
