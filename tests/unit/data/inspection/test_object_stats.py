"""Object counts and sizes."""

import pytest

from palitune.data.inspection.object_stats import ObjectStats, near_duplicate_labels, percentiles
from palitune.records import Instance


def stats() -> ObjectStats:
    result = ObjectStats(input_size=224, patch_size=14)
    boats = [Instance("boat", (0, 0, 10, 20)), Instance("boat", (0, 0, 200, 100))]
    result.add([*boats, Instance("sea", (0, 0, 400, 200), crowd=True)], (400, 200))
    result.add([], (400, 200))
    result.add([Instance("buoy", (10, 10, 50, 60))], (100, 100))
    return result


def test_objects_are_counted_by_class_and_image() -> None:
    summary = stats().summary()
    assert (summary["objects"], summary["crowds"], summary["empty_images"]) == (3, 1, 1)
    assert summary["per_image"] == {"0": 1, "1": 1, "2": 1}
    assert list(summary["classes"]) == ["boat", "buoy"]
    assert summary["classes"]["boat"]["objects"] == 2
    assert summary["classes"]["boat"]["images"] == 1


def test_sizes_are_in_pixels_of_the_image_and_of_the_model_input() -> None:
    summary = stats().summary()
    assert summary["shorter_side"]["median"] == 40
    # 10 of 400 px across become 5.6 of 224, 100 of 200 become 112, and 40 of 100 89.6.
    assert summary["shorter_side_for_the_model"]["median"] == pytest.approx(89.6, abs=0.01)
    assert summary["below_a_patch"] == pytest.approx(1 / 3)
    assert summary["extents"] == {"small": 1, "medium": 1, "large": 1}
    assert summary["share_of_image"]["median"] == pytest.approx(0.2)


def test_without_rows_the_summary_is_empty_and_without_objects_it_has_no_sizes() -> None:
    assert ObjectStats(224, 14).summary() == {}
    nothing = ObjectStats(224, 14)
    nothing.add([], (10, 10))
    summary = nothing.summary()
    assert (summary["objects"], summary["shorter_side"], summary["below_a_patch"]) == (0, {}, 0.0)


def test_percentiles_without_values_are_empty() -> None:
    assert percentiles([]) == {}
    assert percentiles([1, 2, 3], {"max": 100}) == {"max": 3}


def test_labels_that_differ_in_spelling_only_are_grouped() -> None:
    labels = ["boat", "Boat", "fishing boat", "fishing_boat ", "fishing-boat", "buoy", "boats"]
    assert near_duplicate_labels(labels) == [
        ["Boat", "boat"],
        ["fishing boat", "fishing-boat", "fishing_boat "],
    ]


def test_the_grids_count_centers_and_sizes() -> None:
    summary = stats().summary()
    centers, extents = summary["centers"], summary["widths_and_heights"]
    # (5, 10) and (100, 50) of 400 x 200 px, and (30, 35) of 100 x 100 px.
    assert (centers[1][0], centers[6][6], centers[8][7]) == (1, 1, 1)
    # Heights of 20 and 100 of 200 px, and of 50 of 100 px; rows count from the top.
    assert (extents[21][0], extents[11][12], extents[11][9]) == (1, 1, 1)
    assert sum(map(sum, centers)) == sum(map(sum, extents)) == 3
