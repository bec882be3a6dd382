"""Detection: which classes the prompt names, in which order objects are listed, what is refused."""

import dataclasses
from typing import Any

import pytest

from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.detection import CrowdPolicy, Detection, ObjectOrder, PromptClasses

BOAT = Instance("boat", (20, 50, 30, 60))
BUOY = Instance("buoy", (30, 20, 40, 30))
SWARM = Instance("boat", (0, 0, 100, 10), crowd=True)
GULL = Instance("gull", (0, 20, 8, 26))
ROW = Row(
    id="17",
    images=("/harbour.jpg",),
    size=(1023, 1023),
    location="boats.json, image id 17",
    instances=(BOAT, BUOY, SWARM, GULL),
    classes=("boat", "buoy", "gull", "whale"),
)
BOAT_TEXT = "<loc0050><loc0020><loc0060><loc0030> boat"
BUOY_TEXT = "<loc0020><loc0030><loc0030><loc0040> buoy"
GULL_TEXT = "<loc0020><loc0000><loc0026><loc0008> gull"


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


def test_all_asks_for_every_class_of_the_source() -> None:
    assert Detection().prefix(ROW) == "detect boat ; buoy ; gull ; whale"
    assert Detection(classes=["whale", "boat"]).prefix(ROW) == "detect whale ; boat"


def test_a_prompt_of_its_own_stands_in_place_of_the_classes() -> None:
    task = Detection(prompt="detect all classes")
    assert task.prefix(ROW) == "detect all classes"
    assert task.example(ROW).suffixes == Detection().example(ROW).suffixes


def test_present_asks_for_the_classes_that_occur_and_for_all_where_none_does() -> None:
    task = Detection(prompt_classes=PromptClasses.present)
    assert task.prefix(ROW) == "detect boat ; buoy ; gull"
    assert task.prefix(with_columns(instances=())) == "detect boat ; buoy ; gull ; whale"
    assert (
        Detection(prompt_classes=PromptClasses.present, classes=["whale", "gull"]).prefix(ROW)
        == "detect gull"
    )


@pytest.mark.parametrize(
    ("order", "texts", "reference"),
    [
        (ObjectOrder.reading, (GULL_TEXT, BUOY_TEXT, BOAT_TEXT), (SWARM, GULL, BUOY, BOAT)),
        (ObjectOrder.given, (BOAT_TEXT, BUOY_TEXT, GULL_TEXT), (BOAT, BUOY, SWARM, GULL)),
    ],
)
def test_objects_are_listed_in_order_and_crowds_are_not_written(
    order: ObjectOrder, texts: tuple[str, ...], reference: tuple[Instance, ...]
) -> None:
    example = Detection(order=order).example(ROW)
    assert example.suffixes == (" ; ".join(texts),)
    assert example.reference == reference


def test_random_order_is_the_same_for_the_same_example_only() -> None:
    task = Detection(order=ObjectOrder.random)
    many = tuple(Instance("boat", (n, n, n + 5, n + 5)) for n in range(20))
    first = task.example(with_columns(instances=many))
    assert first == task.example(with_columns(instances=many))
    assert first.suffixes != task.example(with_columns(instances=many, id="18")).suffixes
    assert set(first.reference) == set(many)
    assert first.reference != many


def test_objects_of_classes_that_are_not_asked_for_are_left_out() -> None:
    example = Detection(classes=["buoy", "whale"]).example(ROW)
    assert (example.suffixes, example.reference) == ((BUOY_TEXT,), (BUOY,))


def test_an_image_without_objects_has_an_empty_suffix_and_no_reference() -> None:
    example = Detection().example(with_columns(instances=()))
    assert (example.suffixes, example.reference) == (("",), ())
    assert Detection().parse("", (9, 9)) == ()


def test_text_without_one_readable_object_is_malformed() -> None:
    task = Detection()
    assert task.parse("no boats today", ROW.size) is None
    assert task.parse(f"well ; {BOAT_TEXT} ; <loc9999>", ROW.size) == (BOAT,)
    scored = task.parse(BOAT_TEXT, ROW.size, confidence=lambda start, end: 0.25)
    assert scored == (dataclasses.replace(BOAT, score=0.25),)


def test_a_suffix_of_the_row_is_the_reference() -> None:
    example = Detection().example(with_columns(suffix=BOAT_TEXT, instances=None))
    assert (example.suffixes, example.reference) == ((BOAT_TEXT,), (BOAT,))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"instances": None}, "column 'instances' is missing, but this task requires it"),
        ({"classes": None}, "the data has no list of classes. Set task.classes=[...]"),
        ({"classes": ()}, "the data has no list of classes"),
        ({"suffix": "a boat"}, "suffix 'a boat' is not '<locY0><locX0><locY1><locX1> label ; ...'"),
        (
            {"instances": (dataclasses.replace(BOAT, label="a;b"),), "classes": ("a;b",)},
            "label 'a;b' contains ';'",
        ),
        (
            {"instances": (dataclasses.replace(BOAT, label=""),), "classes": ("",)},
            "an object has an empty label",
        ),
        (
            {"instances": (dataclasses.replace(BOAT, box=(9, 0, 5, 5)),)},
            "box (9, 0, 5, 5) is inver",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_place(
    columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as refusal:
        Detection().example(with_columns(**columns))
    assert str(refusal.value).startswith(f"boats.json, image id 17: {message}")


def test_one_class_is_drawn_by_the_example_as_often_present_as_absent() -> None:
    task = Detection(prompt_classes=PromptClasses.one)
    asked = [task.example(with_columns(id=str(n))) for n in range(400)]
    assert {e.prefix for e in asked} == {f"detect {name}" for name in ROW.classes or ()}
    assert 150 < sum(e.prefix == "detect whale" for e in asked) < 250
    for example in asked:
        label = example.prefix.removeprefix("detect ")
        assert example.reference == tuple(i for i in (SWARM, GULL, BUOY, BOAT) if i.label == label)
    assert asked == [task.example(with_columns(id=str(n))) for n in range(400)]
    everything = with_columns(classes=("boat", "buoy", "gull"))
    assert task.prefix(everything).removeprefix("detect ") in ("boat", "buoy", "gull")
    assert task.prefix(with_columns(instances=())).removeprefix("detect ") in (ROW.classes or ())


def test_some_classes_are_drawn_by_the_example_in_their_own_order() -> None:
    task = Detection(prompt_classes=PromptClasses.some)
    asked = [task.example(with_columns(id=str(n))) for n in range(400)]
    lists = [example.prefix.removeprefix("detect ").split(" ; ") for example in asked]
    assert {len(names) for names in lists} == {1, 2, 3, 4}
    assert all(names == [name for name in ROW.classes or () if name in names] for names in lists)
    for example, names in zip(asked, lists, strict=True):
        assert {i.label for i in example.reference if isinstance(i, Instance)} <= set(names)


def test_negatives_are_kept_by_a_share_that_the_example_decides() -> None:
    empty = [with_columns(id=str(n), instances=()) for n in range(400)]
    assert all(map(Detection().include_in_training, empty))
    assert not any(map(Detection(negative_ratio=0).include_in_training, empty))
    quarter = [row.id for row in empty if Detection(negative_ratio=0.25).include_in_training(row)]
    half = [row.id for row in empty if Detection(negative_ratio=0.5).include_in_training(row)]
    assert 60 < len(quarter) < 140 < len(half) < 260
    assert set(quarter) < set(half), "a larger share keeps what the smaller did"
    assert Detection(negative_ratio=0).include_in_training(ROW)
    assert not Detection(negative_ratio=0, classes=["whale"]).include_in_training(ROW)


def test_dropped_crowds_are_neither_reference_nor_ignored() -> None:
    task = Detection(crowd=CrowdPolicy.drop)
    assert task.example(ROW).reference == (GULL, BUOY, BOAT)
    assert task.count_dropped(ROW) == {"crowd regions (task.crowd=drop)": 1}
    assert Detection().count_dropped(ROW) == {}


def test_small_objects_are_not_written_but_ignored_in_evaluation() -> None:
    task = Detection(min_box_side=8)
    example = task.example(ROW)
    assert example.suffixes == (f"{BUOY_TEXT} ; {BOAT_TEXT}",)
    ignored = dataclasses.replace(GULL, crowd=True)
    assert example.reference == (SWARM, ignored, BUOY, BOAT)
    assert task.count_dropped(ROW) == {"objects smaller than task.min_box_side=8": 1}
    assert Detection(min_box_side=6).count_dropped(ROW) == {}


def test_objects_over_the_limit_are_counted_and_still_wanted() -> None:
    task = Detection(max_objects=2)
    example = task.example(ROW)
    assert example.suffixes == (f"{GULL_TEXT} ; {BUOY_TEXT}",)
    assert example.reference == (SWARM, GULL, BUOY, BOAT)
    assert task.count_dropped(ROW) == {"objects over task.max_objects=2": 1}
    assert task.count_dropped(with_columns(suffix=BOAT_TEXT)) == {}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            {"negative_ratio": 1.5},
            r"task\.negative_ratio must be at least 0 and at most 1, got 1\.5",
        ),
        ({"min_box_side": -1}, r"task\.min_box_side must be at least 0, got -1"),
        ({"max_objects": 0}, r"task\.max_objects must be at least 1, got 0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Detection(**settings)


def test_an_answer_names_the_classes_of_its_prompt() -> None:
    assert Detection().grammar("detect boat ; traffic light") == ObjectGrammar(
        ("boat", "traffic light")
    )
    assert Detection(max_objects=3).grammar("detect boat ; boat") == ObjectGrammar(
        ("boat",), max_objects=3
    )


def test_a_prompt_in_other_words_allows_all_classes_of_the_task_and_none_if_it_has_none() -> None:
    task = Detection(classes=["car", "van"])
    assert task.grammar("detect van") == ObjectGrammar(("van",))
    assert task.grammar("detect vehicles") == ObjectGrammar(("car", "van"))
    assert task.grammar("find what drives") == ObjectGrammar(("car", "van"))
    assert Detection().grammar("find what drives") is None


def test_a_class_that_no_answer_can_hold_is_not_allowed() -> None:
    assert Detection(classes=["a;b", "boat"]).grammar("detect a;b ; boat") == ObjectGrammar(
        ("boat",)
    )
    assert Detection().grammar("detect <loc0001>") is None


def test_what_no_object_can_be_read_from_is_counted() -> None:
    assert Detection().count_malformed(f"{BOAT_TEXT} ; <loc0001> cut ; {BUOY_TEXT} ; junk") == 2
    assert Detection().count_malformed("") == 0
