"""Lengths are those that the collator gives; answers are counted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from palitune.data.collator import Collator
from palitune.data.inspection.text_stats import AnswerStats, TokenLengthStats
from palitune.models.config import Local
from palitune.models.loading import load_processor
from palitune.records import Example


def test_lengths_equal_those_of_the_collator(
    tiny: Callable[[str], Path], examples: Sequence[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palitune.data.inspection.text_stats._TOKENIZE_BATCH_SIZE", 2)
    processor = load_processor(Local(path=str(tiny("paligemma2"))))
    several = [*examples, replace(examples[0], images=examples[0].images * 2)]
    lengths = TokenLengthStats(processor.tokenizer, processor.image_seq_length)
    for example in several:
        lengths.add(example)
    told = lengths.summary(max_length=70, max_new_tokens=6)
    collator = Collator(processor)
    expected = [collator.num_tokens(example) for example in several]
    assert list(lengths.example_lengths) == expected
    assert told["example"]["max"] == max(expected)
    assert told["longest_at"] == several[expected.index(max(expected))].location
    assert told["over_max_length"] == sum(one > 70 for one in expected) / len(expected)
    suffixes = [max(map(len, collator._tokenize(e.suffixes))) + 1 for e in several]
    assert list(lengths.suffix_lengths) == suffixes
    assert told["over_max_new_tokens"] == sum(one > 6 for one in suffixes) / len(suffixes)


def test_nothing_has_no_lengths(tiny: Callable[[str], Path]) -> None:
    processor = load_processor(Local(path=str(tiny("paligemma2"))))
    assert TokenLengthStats(processor.tokenizer, 4).summary(1, 1) == {}


def test_answers_are_counted_where_they_are_texts(examples: Sequence[Example]) -> None:
    answers = AnswerStats()
    for example in [*examples[2:4], examples[2]]:
        answers.add(example)
    answers.add(replace(examples[0], reference=()))
    assert answers.summary() == {
        "distinct": 2,
        "most_frequent": {"two": 2, "a red boat beside two yellow buoys": 1},
        "share_of_most_frequent": pytest.approx(2 / 3),
        "acceptable": {"1": 1, "2": 2},
    }
    assert AnswerStats().summary() == {}
