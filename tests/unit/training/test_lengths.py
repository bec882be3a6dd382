"""Lengths are known before the first step."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.collator import Collator
from palitune.data.visits import Suffixes, Visits
from palitune.examples import DataError, Example
from palitune.models.checkpoints import Local
from palitune.models.loading import load_processor
from palitune.training.lengths import check_lengths, spaced


@pytest.fixture
def collator(tiny: Callable[[str], Path]) -> Collator:
    return Collator(load_processor(Local(path=str(tiny("paligemma")))))


def test_the_probes_are_the_shortest_the_middle_and_the_longest(
    collator: Collator, examples: list[Example]
) -> None:
    lengths = [collator.length(example) for example in examples]
    said, probes = check_lengths(collator, examples, max(lengths))
    assert f"{min(lengths)} to {max(lengths)} tokens" in said
    assert lengths.index(min(lengths)) in probes
    assert lengths.index(max(lengths)) in probes
    assert len(probes) == 3


def test_over_long_examples_are_refused_with_their_share_and_the_way_out(
    collator: Collator, examples: list[Example]
) -> None:
    lengths = sorted(collator.length(example) for example in examples)
    with pytest.raises(DataError, match=rf"20\.0% .* set training\.max_length={lengths[-1]}"):
        check_lengths(collator, examples, lengths[-1] - 1)


def test_spaced_indices_cover_the_whole_list() -> None:
    assert spaced(5, 100) == [0, 1, 2, 3, 4]
    assert spaced(1000, 4) == [0, 250, 500, 750]


def test_suffixes_of_one_row_are_counted_together(
    collator: Collator, examples: list[Example]
) -> None:
    two = examples[2]
    batch = collator.train([Visits([two], Suffixes.all, 0)[0]])
    together, _ = check_lengths(collator, [two], 200, together=True)
    assert f"{batch['input_ids'].shape[1]} tokens" in together
    assert collator.length(two, together=True) > collator.length(two)
