from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.objects.confusion_matrix import (
    NO_OBJECT,
    OTHER_LABELS,
    LabelPair,
    answer_label_pair,
    closed_set_classes,
    confusion_matrix,
    is_categorical,
    most_frequent,
    object_label_pairs,
)
from palitune.metrics.objects.matching import count_matches
from palitune.records import Instance

BOX, NEAR, FAR = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 8.0), (50.0, 50.0, 60.0, 60.0)


def test_an_object_of_another_label_in_the_same_place_is_a_confusion() -> None:
    pairs = object_label_pairs([Instance("buoy", NEAR)], [Instance("boat", BOX)])
    assert pairs == [("boat", "buoy")]


def test_the_right_label_is_paired_before_a_nearer_wrong_one() -> None:
    predicted = [Instance("buoy", BOX), Instance("boat", NEAR)]
    pairs = object_label_pairs(predicted, [Instance("boat", BOX)])
    assert pairs == [("boat", "boat"), (NO_OBJECT, "buoy")]


def test_what_lies_apart_was_missed_and_invented() -> None:
    pairs = object_label_pairs([Instance("boat", FAR)], [Instance("boat", BOX)])
    assert pairs == [("boat", NO_OBJECT), (NO_OBJECT, "boat")]


def test_a_crowd_is_in_no_pair_and_excuses_its_label() -> None:
    crowd = [Instance("gull", BOX, crowd=True)]
    assert object_label_pairs([Instance("gull", NEAR)], crowd) == []
    assert object_label_pairs([Instance("boat", NEAR)], crowd) == [(NO_OBJECT, "boat")]
    assert object_label_pairs([], crowd) == []


sides = st.integers(0, 3).map(float)
boxes = st.builds(lambda x, y, w, h: (x, y, x + w + 1, y + h + 1), sides, sides, sides, sides)
labels = st.sampled_from("ab")
found = st.lists(st.builds(Instance, labels, boxes), max_size=5)
wanted = st.lists(st.builds(Instance, labels, boxes, crowd=st.booleans()), max_size=5)


@given(found, wanted)
def test_the_diagonal_is_what_f1_counts_as_found(
    predicted: list[Instance], reference: list[Instance]
) -> None:
    pairs, counted = object_label_pairs(predicted, reference), count_matches(predicted, reference)
    assert sum(left == right for left, right in pairs) == counted.true_positives
    assert sum(left not in (right, NO_OBJECT) for left, right in pairs) == counted.false_negatives
    assert sum(right not in (left, NO_OBJECT) for left, right in pairs) == counted.false_positives


def test_answers_are_classes_where_a_few_short_ones_recur() -> None:
    assert closed_set_classes([["yes"], ["no"]] * 3) == {"yes", "no"}
    assert closed_set_classes([["yes", "no", "yes"], ["no"], []] * 3) == {"yes", "no"}
    assert closed_set_classes([["yes"]] * 9) == frozenset()  # nothing to confuse
    assert closed_set_classes([[str(number)] for number in range(9)]) == frozenset()
    assert closed_set_classes([[f"{number % 31}"] for number in range(930)]) == frozenset()
    assert closed_set_classes([["a long sentence about " * 3], ["another"]] * 9) == frozenset()


def test_labels_recur_from_three_times_on_average() -> None:
    assert is_categorical(["a", "b", "a", "b", "a", "b"])
    assert not is_categorical(["a", "b", "a", "b", "a"])


def test_an_answer_is_taken_for_a_class_for_another_or_for_none() -> None:
    classes = frozenset({"1", "2", "3"})
    assert answer_label_pair("2", ["2"], classes) == ("2", "2")
    assert answer_label_pair("3", ["2"], classes) == ("2", "3")
    assert answer_label_pair("twelve", ["2"], classes) == ("2", OTHER_LABELS)
    assert answer_label_pair(None, ["2"], classes) == ("2", NO_OBJECT)
    # An acceptable answer is right, whichever the annotators agreed on most.
    assert answer_label_pair("3", ["2", "2", "3"], classes) == ("3", "3")
    assert answer_label_pair("two", ["2", "2", "two"], classes) == ("2", "2")


def test_the_usual_reference_is_the_most_frequent_one() -> None:
    assert most_frequent(["a", "b", "b"]) == "b"
    assert most_frequent(["a", "b"]) == "a"


def test_a_table_counts_by_reference_and_prediction() -> None:
    counted = Counter[LabelPair](
        {("10", "10"): 5, ("9", "10"): 2, ("9", NO_OBJECT): 1, ("9", "9"): 1}
    )
    found = confusion_matrix(counted, max_labels=10)
    assert found.labels == ("9", "10", NO_OBJECT)
    assert found.counts == ((1, 2, 1), (0, 5, 0), (0, 0, 0))


def test_classes_that_have_no_room_are_added_up() -> None:
    counted = Counter[LabelPair](
        {("a", "b"): 3, ("c", "c"): 9, ("d", "a"): 1, ("b", OTHER_LABELS): 1}
    )
    found = confusion_matrix(counted, max_labels=2)
    assert found.labels == ("a", "b", OTHER_LABELS)
    assert found.counts == ((0, 3, 0), (0, 0, 1), (1, 0, 9))


@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(["a", "b", "c", NO_OBJECT]), st.sampled_from(["a", "b", OTHER_LABELS])
        ),
        st.integers(1, 9),
    ),
    st.integers(1, 5),
)
def test_a_table_loses_no_count(pairs: dict[LabelPair, int], most: int) -> None:
    assert sum(map(sum, confusion_matrix(Counter(pairs), most).counts)) == sum(pairs.values())
