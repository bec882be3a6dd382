"""Text spotting: reading order, words with separators in them, words that nobody can read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.text_spotting import TextSpotting, sort_in_reading_order

SIZE = (1023, 1023)
WORDS = st.lists(st.text(st.sampled_from("ab;< "), min_size=1).filter(str.strip), max_size=6)


def row(*instances: Instance, **columns: Any) -> Row:
    return Row(
        id="1",
        images=("/sign.jpg",),
        size=SIZE,
        location="signs.jsonl:1",
        instances=instances,
        **columns,
    )


def test_words_are_listed_line_by_line() -> None:
    hours, open_, daily = (
        Instance("24h", (10, 104, 60, 130)),
        Instance("open", (70, 95, 160, 131)),
        Instance("daily;", (5, 150, 90, 180)),
    )
    example = TextSpotting().example(row(daily, open_, hours))
    assert example.prefix == "ocr"
    assert example.suffixes == (
        "<loc0104><loc0010><loc0130><loc0060> 24h ; <loc0095><loc0070><loc0131><loc0160> open ; "
        "<loc0150><loc0005><loc0180><loc0090> daily;",
    )
    assert example.reference == (hours, open_, daily)
    given_order = TextSpotting(sort=False, prompt="read").example(row(daily, open_, hours))
    assert (given_order.prefix, given_order.reference) == ("read", (daily, open_, hours))


def test_nothing_to_read_is_nothing_in_order() -> None:
    assert sort_in_reading_order([]) == []
    assert TextSpotting().example(row()).suffixes == ("",)
    assert TextSpotting().parse("", SIZE) == ()
    assert TextSpotting().parse("no words", SIZE) is None


@given(words=WORDS)
def test_any_word_is_read_back_also_with_separators_in_it(words: list[str]) -> None:
    task = TextSpotting()
    instances = [Instance(w, (10, 20 * n, 30, 20 * n + 9)) for n, w in enumerate(words)]
    example = task.example(row(*instances))
    read = task.parse(example.suffixes[0], SIZE)
    assert read == example.reference
    assert [i.label for i in read or ()] == [" ".join(w.split()) for w in words]


def test_illegible_words_are_not_written_and_counted() -> None:
    word, smear = Instance("open", (0, 0, 9, 9)), Instance("###", (20, 0, 29, 9))
    example = TextSpotting().example(row(word, smear))
    assert example.suffixes == ("<loc0000><loc0000><loc0009><loc0009> open",)
    assert example.reference == (word, Instance("###", (20, 0, 29, 9), crowd=True))
    assert TextSpotting().count_dropped(row(word, smear)) == {"illegible words (task.illegible)": 1}
    assert TextSpotting(illegible=[]).count_dropped(row(word, smear)) == {}


def test_a_word_carries_the_confidence_in_its_own_text() -> None:
    text = "<loc0000><loc0000><loc0009><loc0009> open ; <loc0000><loc0020><loc0009><loc0029> now"
    spans: list[str] = []

    def confidence(start: int, end: int) -> float:
        spans.append(text[start:end])
        return 0.5

    read = TextSpotting().parse(text, SIZE, confidence)
    assert [i.score for i in read or ()] == [0.5, 0.5]
    assert " ; ".join(spans) == text


@pytest.mark.parametrize(
    ("label", "why"),
    [
        (" ", "word ' ' is empty or contains a <loc> or <seg> token"),
        ("<loc0001>", "word '<loc0001>' is empty or contains"),
    ],
)
def test_a_word_that_cannot_be_read_back_is_refused(label: str, why: str) -> None:
    with pytest.raises(DataError) as refusal:
        TextSpotting().example(row(Instance(label, (0, 0, 9, 9))))
    assert str(refusal.value).startswith(f"signs.jsonl:1: {why}")


def test_a_suffix_of_the_row_is_read_or_refused() -> None:
    text = "<loc0000><loc0000><loc0009><loc0009> open"
    example = TextSpotting().example(row(suffix=text))
    assert example.reference == (Instance("open", (0, 0, 9, 9)),)
    assert TextSpotting().count_dropped(row(suffix=text)) == {}
    with pytest.raises(DataError, match=r"suffix 'open <loc0000>' is not '<locY0>"):
        TextSpotting().example(row(suffix="open <loc0000>"))


def test_an_answer_has_any_words_and_what_is_none_is_counted() -> None:
    assert TextSpotting().grammar("ocr") == ObjectGrammar(labels=None)
    box = "<loc0001><loc0002><loc0003><loc0004>"
    assert TextSpotting().count_malformed(f"{box} open ; {box} ; <loc0001> cut") == 2
