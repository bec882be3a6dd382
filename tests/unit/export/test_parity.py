"""Distances between models, and what is made of them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palitune.errors import ModelError
from palitune.export.parity import (
    GreedyOutput,
    LogitDistance,
    ParityReport,
    assert_parity,
    logit_distance,
)

NEAR = LogitDistance(
    max_difference=0.02, mean_difference=0.01, deviation=2.0, same_tokens=1.0, same_answers=1.0
)
PARITY = ParityReport(
    dtype="float32",
    quantize="none",
    bound=0.02,
    largest=0.01,
    merged=NEAR,
    as_trained=None,
    bits=None,
    largest_pixel_difference=0.0,
    prompts=[],
)


def test_tokens_agree_place_by_place_and_a_missing_one_does_not() -> None:
    logits = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    reference = [GreedyOutput([5, 6, 1], logits), GreedyOutput([7, 1], logits)]
    export = [GreedyOutput([5, 9], logits), GreedyOutput([7, 1], logits + torch.tensor([0.0, 0.5]))]
    found = logit_distance(reference, export)
    assert found.same_tokens == 3 / 5
    assert found.same_answers == 1 / 2
    assert found.max_difference == 0.5
    assert found.mean_difference == 0.125
    assert found.deviation == pytest.approx(torch.cat([logits, logits]).flatten().std().item())


@pytest.mark.parametrize("largest", [0.021, math.nan, math.inf])
def test_what_is_too_far_is_refused(largest: float) -> None:
    with pytest.raises(
        ModelError, match=r"standard deviations .* than max_logit_error=0.02; do not use out"
    ):
        assert_parity(replace(PARITY, largest=largest), Path("out"))


def test_what_is_near_or_not_judged_passes() -> None:
    assert_parity(PARITY, Path("out"))
    assert_parity(replace(PARITY, largest=9.0, bound=None), Path("out"))


def test_the_distance_to_the_quantized_base_is_told_apart() -> None:
    (one,) = PARITY.summary_lines()
    assert one == (
        "export against base + adapter: logits differ by at most 0.02 (their deviation is 2), "
        "100.0% of the tokens are the same"
    )
    _, other = replace(PARITY, as_trained=NEAR, bits=4).summary_lines()
    assert other.startswith("export against base in 4 bits + adapter, as trained: logits differ")
