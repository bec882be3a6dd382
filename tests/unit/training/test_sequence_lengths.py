"""Token lengths are checked before training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.errors import DataError
from palitune.models.config import Local
from palitune.models.loading import load_processor
from palitune.records import Example
from palitune.training import sequence_lengths
from palitune.training.sequence_lengths import check_lengths, evenly_spaced


@pytest.fixture
def collator(tiny: Callable[[str], Path]) -> Collator:
    return Collator(load_processor(Local(path=str(tiny("paligemma")))))


def test_the_probes_are_the_shortest_the_middle_and_the_longest(
    collator: Collator, examples: list[Example]
) -> None:
    lengths = [collator.num_tokens(example) for example in examples]
    message, probes = check_lengths(collator, examples, max(lengths))
    assert f"{min(lengths)} to {max(lengths)} tokens" in message
    assert lengths.index(min(lengths)) in probes
    assert lengths.index(max(lengths)) in probes
    assert len(probes) == 3


def test_over_long_examples_are_rejected_with_their_share_and_a_valid_length(
    collator: Collator, examples: list[Example]
) -> None:
    lengths = sorted(collator.num_tokens(example) for example in examples)
    with pytest.raises(DataError, match=rf"20\.0% .* Set training\.max_length={lengths[-1]} "):
        check_lengths(collator, examples, lengths[-1] - 1)


@pytest.mark.parametrize("all_suffixes", [False, True])
def test_many_examples_have_the_lengths_of_each_alone(
    collator: Collator, examples: list[Example], all_suffixes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence_lengths, "_CHUNK", 3)
    monkeypatch.setattr(sequence_lengths, "MAX_COUNTED_EXAMPLES", 4)
    repeated = examples * 3
    counted = sequence_lengths.count_tokens(collator, repeated, all_suffixes=all_suffixes)
    assert counted == [collator.num_tokens(e, all_suffixes=all_suffixes) for e in repeated]


def test_evenly_spaced_indices_cover_the_whole_list() -> None:
    assert evenly_spaced(5, 100) == [0, 1, 2, 3, 4]
    assert evenly_spaced(1000, 4) == [0, 250, 500, 750]


def test_suffixes_of_one_row_are_counted_together(
    collator: Collator, examples: list[Example]
) -> None:
    two = examples[2]
    batch = collator.collate_train([TrainingSet([two], TargetSampling.all, 0)[0]])
    together, _ = check_lengths(collator, [two], 200, all_suffixes=True)
    assert f"{batch['input_ids'].shape[1]} tokens" in together
    assert collator.num_tokens(two, all_suffixes=True) > collator.num_tokens(two)
