from palitune.examples import Instance, Reference, Value
from palitune.report.confusions import confusion, pairs_of
from palitune.report.run_folder import Answer, Judged

BOX = (0.0, 0.0, 10.0, 10.0)


def judged(reference: Reference, value: Value | None) -> Judged:
    return Judged(
        id="1",
        part="p",
        images=(),
        size=(20, 20),
        prefix="",
        reference=reference,
        after=Answer(text="", value=value, scores={}),
        before=None,
    )


def boats(reference: str, predicted: str) -> Judged:
    value = (Instance(predicted, BOX, score=0.5),) if predicted else ()
    return judged((Instance(reference, BOX),), value)


def test_classes_of_objects_are_counted_and_the_largest_confusions_listed() -> None:
    examples = [
        *[boats("boat", "boat")] * 5,
        *[boats("buoy", "boat")] * 3,
        boats("buoy", "gull"),
        *[boats("buoy", "")] * 2,
    ]
    found = confusion("p", examples, pairs_of(examples))
    assert found.table.labels == ("boat", "buoy", "gull", "")
    assert found.table.counts[1] == (3, 0, 1, 2)
    assert found.swapped == ((("buoy", "boat"), 3, 0.5), (("buoy", "gull"), 1, 1 / 6))
    assert found.lists[1] == ("missed and invented", ((("buoy", ""), 2, 1 / 3),))
    assert found.share(1, 0) == 0.5
    assert found.is_right(0, 0)
    assert not found.is_right(3, 3)
    assert found.name("", reference=False) == "missed"
    assert found.name("", reference=True) == "nothing there"


def test_answers_of_a_closed_set_are_classes() -> None:
    examples = [judged(("yes",), "yes"), judged(("no",), "maybe"), judged(("no",), None)] * 3
    found = confusion("p", examples, pairs_of(examples))
    assert [found.name(label, reference=False) for label in found.table.labels] == [
        "no",
        "yes",
        "other",
        "malformed",
    ]
    assert found.table.counts[:2] == ((0, 0, 3, 3), (0, 3, 0, 0))
    assert [name for name, _ in found.lists] == ["largest confusions", "malformed"]


def test_free_texts_and_unlabelled_boxes_have_no_classes() -> None:
    texts = [judged((f"a caption, the {number}th",), "a boat") for number in range(9)]
    assert not any(pairs_of(texts))
    assert not any(pairs_of([boats("", "")] * 9))
    assert not any(pairs_of([judged((), "an answer without a reference")] * 9))


def test_an_example_without_a_reference_adds_nothing() -> None:
    examples = [judged(("yes",), "yes"), judged(("no",), "no")] * 3 + [judged((), "yes")]
    pairs = pairs_of(examples)
    assert pairs[0] == [("yes", "yes")]
    assert pairs[-1] == []
