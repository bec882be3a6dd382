"""Token lengths equal those of the collator; answers are counted."""

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
    summary = lengths.summary(max_length=70, max_new_tokens=6)
    collator = Collator(processor)
    expected = [collator.num_tokens(example) for example in several]
    assert list(lengths.example_lengths) == expected
    assert summary["example"]["max"] == max(expected)
    assert summary["longest_at"] == several[expected.index(max(expected))].location
    assert summary["over_max_length"] == sum(length > 70 for length in expected) / len(expected)
    suffixes = [max(map(len, collator._tokenize(e.suffixes))) + 1 for e in several]
    assert list(lengths.suffix_lengths) == suffixes
    assert summary["over_max_new_tokens"] == sum(length > 6 for length in suffixes) / len(suffixes)


def test_the_summary_without_examples_is_empty(tiny: Callable[[str], Path]) -> None:
    processor = load_processor(Local(path=str(tiny("paligemma2"))))
    assert TokenLengthStats(processor.tokenizer, 4).summary(1, 1) == {}


def test_text_answers_are_counted(examples: Sequence[Example]) -> None:
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
