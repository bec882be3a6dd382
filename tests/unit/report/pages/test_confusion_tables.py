from palitune.records import Instance, Reference, Value
from palitune.report.pages.confusion_tables import confusion_pairs, summarize_confusion
from palitune.report.run_reader import EvaluatedExample, ScoredPrediction

BOX = (0.0, 0.0, 10.0, 10.0)


def evaluated(reference: Reference, value: Value | None) -> EvaluatedExample:
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
    return evaluated((Instance(reference, BOX),), value)


def test_classes_of_objects_are_counted_and_the_largest_confusions_listed() -> None:
    examples = [
        *[boats("boat", "boat")] * 5,
        *[boats("buoy", "boat")] * 3,
        boats("buoy", "gull"),
        *[boats("buoy", "")] * 2,
    ]
    confusion = summarize_confusion("p", examples, confusion_pairs(examples))
    assert confusion.matrix.labels == ("boat", "buoy", "gull", "")
    assert confusion.matrix.counts[1] == (3, 0, 1, 2)
    assert confusion.class_confusions == ((("buoy", "boat"), 3, 0.5), (("buoy", "gull"), 1, 1 / 6))
    assert confusion.titled_lists[1] == ("missed and spurious objects", ((("buoy", ""), 2, 1 / 3),))
    assert confusion.row_share(1, 0) == 0.5
    assert confusion.is_correct(0, 0)
    assert not confusion.is_correct(3, 3)
    assert confusion.display_name("", reference=False) == "missed"
    assert confusion.display_name("", reference=True) == "no object"


def test_answers_of_a_closed_set_are_classes() -> None:
    examples = [
        evaluated(("yes",), "yes"),
        evaluated(("no",), "maybe"),
        evaluated(("no",), None),
    ] * 3
    confusion = summarize_confusion("p", examples, confusion_pairs(examples))
    assert [
        confusion.display_name(label, reference=False) for label in confusion.matrix.labels
    ] == [
        "no",
        "yes",
        "other",
        "malformed",
    ]
    assert confusion.matrix.counts[:2] == ((0, 0, 3, 3), (0, 3, 0, 0))
    assert [name for name, _ in confusion.titled_lists] == ["largest confusions", "malformed"]


def test_free_texts_and_unlabeled_boxes_have_no_classes() -> None:
    texts = [evaluated((f"a caption, the {number}th",), "a boat") for number in range(9)]
    assert not any(confusion_pairs(texts))
    assert not any(confusion_pairs([boats("", "")] * 9))
    assert not any(confusion_pairs([evaluated((), "an answer without a reference")] * 9))


def test_an_example_without_a_reference_adds_nothing() -> None:
    examples = [evaluated(("yes",), "yes"), evaluated(("no",), "no")] * 3 + [evaluated((), "yes")]
    pairs = confusion_pairs(examples)
    assert pairs[0] == [("yes", "yes")]
    assert pairs[-1] == []
