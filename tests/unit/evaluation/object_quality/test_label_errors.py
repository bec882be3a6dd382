"""Suspected label errors are the confident contradictions of a prediction and the reference."""

from palitune.evaluation.object_quality.label_errors import Suspect, find_suspects
from palitune.records import Example, Instance, Prediction


def at(x: float, label: str = "boat", score: float | None = None, crowd: bool = False) -> Instance:
    return Instance(label, (x, 0.0, x + 10, 10.0), score=score, crowd=crowd)


def suspects(*images: tuple[list[Instance], list[Instance]]) -> list[Suspect]:
    """Return the suspects of (reference, predicted) of each image."""
    pairs = []
    for number, (reference, predicted) in enumerate(images):
        example = Example(
            id=str(number),
            images=(),
            size=(100, 100),
            prefix="",
            suffixes=(),
            reference=tuple(reference),
            location="",
        )
        pairs.append((example, Prediction(id=str(number), text="", value=tuple(predicted))))
    return find_suspects(pairs)


def kinds(*images: tuple[list[Instance], list[Instance]]) -> list[str]:
    return [suspect.kind for suspect in suspects(*images)]


def test_each_kind_is_recognized() -> None:
    assert kinds(([], [at(0, score=0.9)])) == ["missing"]
    assert kinds(([at(8)], [at(0, score=0.9)])) == ["elsewhere"]
    assert kinds(([at(0, "buoy")], [at(0, score=0.9)])) == ["class"]


def test_agreement_repetition_and_crowds_are_not_suspected() -> None:
    assert kinds(([at(0), at(50)], [at(0, score=0.9), at(50, score=0.8)])) == []
    assert kinds(([at(0)], [at(0, score=0.9), at(1, score=0.8)])) == []
    assert kinds(([at(0)], [at(0, score=0.9), at(0, "buoy", score=0.8)])) == []
    assert kinds(([at(0, crowd=True)], [at(1, score=0.9)])) == []


def test_an_object_without_a_prediction_or_without_a_score_is_not_suspected() -> None:
    assert kinds(([at(0)], [])) == []
    assert kinds(([], [at(0)])) == []


def test_the_most_confident_suspects_come_first() -> None:
    found = suspects(([], [at(0, score=0.3), at(50, score=0.8)]), ([], [at(0, score=0.5)]))
    assert [suspect.suspicion for suspect in found] == [0.8, 0.5, 0.3]


def test_a_repeated_confusion_is_less_suspicious_than_a_single_one() -> None:
    repeated = ([at(0, "buoy")], [at(0, score=0.9)])
    single = ([at(0, "kite")], [at(0, score=0.6)])
    found = suspects(repeated, repeated, single)
    assert [suspect.suspicion for suspect in found] == [0.6, 0.45, 0.45]
    assert found[0].reference == at(0, "kite")


def test_one_object_explains_one_suspect() -> None:
    assert kinds(([at(12)], [at(0, score=0.9), at(24, score=0.5)])) == ["elsewhere", "missing"]


def test_an_object_far_away_is_another_object() -> None:
    assert kinds(([at(80)], [at(0, score=0.9)])) == ["missing"]
