"""Objects are counted and measured as they are."""

import pytest

from palitune.data.inspection.object_stats import ObjectStats, near_duplicate_labels, percentiles
from palitune.records import Instance


def objects() -> ObjectStats:
    found = ObjectStats(input_size=224, patch_size=14)
    boats = [Instance("boat", (0, 0, 10, 20)), Instance("boat", (0, 0, 200, 100))]
    found.add([*boats, Instance("sea", (0, 0, 400, 200), crowd=True)], (400, 200))
    found.add([], (400, 200))
    found.add([Instance("buoy", (10, 10, 50, 60))], (100, 100))
    return found


def test_objects_are_counted_by_class_and_image() -> None:
    told = objects().summary()
    assert (told["objects"], told["crowds"], told["empty_images"]) == (3, 1, 1)
    assert told["per_image"] == {"0": 1, "1": 1, "2": 1}
    assert list(told["classes"]) == ["boat", "buoy"]
    assert told["classes"]["boat"]["objects"] == 2
    assert told["classes"]["boat"]["images"] == 1


def test_sizes_are_those_of_the_image_and_of_what_the_model_sees() -> None:
    told = objects().summary()
    assert told["shorter_side"]["median"] == 40
    # 10 of 400 px across become 5.6 of 224, 100 of 200 become 112, and 40 of 100 89.6.
    assert told["shorter_side_for_the_model"]["median"] == pytest.approx(89.6, abs=0.01)
    assert told["below_a_patch"] == pytest.approx(1 / 3)
    assert told["extents"] == {"small": 1, "medium": 1, "large": 1}
    assert told["share_of_image"]["median"] == pytest.approx(0.2)


def test_without_rows_there_are_no_numbers_and_without_objects_no_sizes() -> None:
    assert ObjectStats(224, 14).summary() == {}
    nothing = ObjectStats(224, 14)
    nothing.add([], (10, 10))
    told = nothing.summary()
    assert (told["objects"], told["shorter_side"], told["below_a_patch"]) == (0, {}, 0.0)


def test_percentiles_of_nothing_are_nothing() -> None:
    assert percentiles([]) == {}
    assert percentiles([1, 2, 3], {"max": 100}) == {"max": 3}


def test_labels_that_differ_in_spelling_only_are_found_together() -> None:
    labels = ["boat", "Boat", "fishing boat", "fishing_boat ", "fishing-boat", "buoy", "boats"]
    assert near_duplicate_labels(labels) == [
        ["Boat", "boat"],
        ["fishing boat", "fishing-boat", "fishing_boat "],
    ]
