"""Augmented views of samples: the texts and boxes are those of the changed image."""

from pathlib import Path

from palitune.data.example_cache import iterate_examples
from palitune.data.images.augmentation import GeometricAugmentation, NoAugmentation
from palitune.data.inspection.augmented_views import NUM_VIEWS, augment_samples
from palitune.data.skipped import SkipCounter
from palitune.data.sources.coco import Coco
from palitune.errors import DataError
from palitune.records import Example, Instance, Row
from palitune.tasks.detection import Detection

from support.toy_data import write_toy_coco


def samples(folder: Path, task: Detection) -> list[tuple[Row, Example]]:
    def fail(error: DataError) -> None:
        raise error

    source = Coco(path=str(write_toy_coco(folder)))
    return list(iterate_examples(source, task, "train", fail, SkipCounter()))


def test_every_box_of_a_view_lies_in_its_image_and_in_its_text(tmp_path: Path) -> None:
    task = Detection()
    rows = samples(tmp_path, task)
    augmented = augment_samples(rows, task, GeometricAugmentation(crop_prob=1.0), seed=3)
    assert [len(sample.views) for sample in augmented] == [NUM_VIEWS] * len(rows)
    sizes = set()
    for sample in augmented:
        for view in sample.views:
            width, height = view.example.size
            sizes.add((width, height))
            boxes = [i.box for i in view.example.reference if isinstance(i, Instance)]
            assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in boxes)
            assert view.example.suffixes[0].count("<loc") == 4 * len(boxes)
            before = sum(isinstance(i, Instance) for i in sample.example.reference)
            assert len(boxes) + view.num_dropped == before
    assert len(sizes) > 1  # crops


def test_the_seed_alone_decides_the_views(tmp_path: Path) -> None:
    task = Detection()
    rows = samples(tmp_path, task)[:3]
    light = GeometricAugmentation()
    assert augment_samples(rows, task, light, 1) == augment_samples(rows, task, light, 1)
    assert augment_samples(rows, task, light, 1) != augment_samples(rows, task, light, 2)


def test_without_augmentation_there_is_nothing_to_show(tmp_path: Path) -> None:
    task = Detection()
    assert augment_samples(samples(tmp_path, task), task, NoAugmentation(), 0) == []
