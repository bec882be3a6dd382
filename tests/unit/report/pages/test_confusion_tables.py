from palitune.records import Instance, Reference, Value
from palitune.report.pages.confusion_tables import confusion_pairs, summarize_confusion
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOX = (0.0, 0.0, 10.0, 10.0)


def judged(reference: Reference, value: Value | None) -> EvaluatedExample:
    return EvaluatedExample(
        id="1",
        part="p",
        images=(),
        size=(20, 20),
        prefix="",
        reference=reference,
        after=ScoredPrediction(text="", value=value, scores={}),
        before=None,
    )


def boats(reference: str, predicted: str) -> EvaluatedExample:
    value = (Instance(predicted, BOX, score=0.5),) if predicted else ()
    return judged((Instance(reference, BOX),), value)


def test_classes_of_objects_are_counted_and_the_largest_confusions_listed() -> None:
    examples = [
        *[boats("boat", "boat")] * 5,
        *[boats("buoy", "boat")] * 3,
        boats("buoy", "gull"),
        *[boats("buoy", "")] * 2,
    ]
    found = summarize_confusion("p", examples, confusion_pairs(examples))
    assert found.matrix.labels == ("boat", "buoy", "gull", "")
    assert found.matrix.counts[1] == (3, 0, 1, 2)
    assert found.class_confusions == ((("buoy", "boat"), 3, 0.5), (("buoy", "gull"), 1, 1 / 6))
    assert found.titled_lists[1] == ("missed and invented", ((("buoy", ""), 2, 1 / 3),))
    assert found.row_share(1, 0) == 0.5
    assert found.is_correct(0, 0)
    assert not found.is_correct(3, 3)
    assert found.display_name("", reference=False) == "missed"
    assert found.display_name("", reference=True) == "nothing there"


def test_answers_of_a_closed_set_are_classes() -> None:
    examples = [judged(("yes",), "yes"), judged(("no",), "maybe"), judged(("no",), None)] * 3
    found = summarize_confusion("p", examples, confusion_pairs(examples))
    assert [found.display_name(label, reference=False) for label in found.matrix.labels] == [
        "no",
        "yes",
        "other",
        "malformed",
    ]
    assert found.matrix.counts[:2] == ((0, 0, 3, 3), (0, 3, 0, 0))
    assert [name for name, _ in found.titled_lists] == ["largest confusions", "malformed"]


def test_free_texts_and_unlabelled_boxes_have_no_classes() -> None:
    texts = [judged((f"a caption, the {number}th",), "a boat") for number in range(9)]
    assert not any(confusion_pairs(texts))
    assert not any(confusion_pairs([boats("", "")] * 9))
    assert not any(confusion_pairs([judged((), "an answer without a reference")] * 9))


def test_an_example_without_a_reference_adds_nothing() -> None:
    examples = [judged(("yes",), "yes"), judged(("no",), "no")] * 3 + [judged((), "yes")]
    pairs = confusion_pairs(examples)
    assert pairs[0] == [("yes", "yes")]
    assert pairs[-1] == []
