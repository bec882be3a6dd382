"""Logit and token differences between models, and their limits."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from palitune.errors import ModelError
from palitune.export.greedy_outputs import GreedyOutput
from palitune.export.parity import (
    LogitDistance,
    ParityReport,
    assert_parity,
    logit_distance,
    report_parity,
)
from palitune.models.adapters.combination import RankReduction

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


def test_tokens_are_compared_by_position_and_a_missing_one_differs() -> None:
    logits = torch.tensor([[0.0, 2.0], [4.0, 6.0]])
    reference = [GreedyOutput([5, 6, 1], logits), GreedyOutput([7, 1], logits)]
    export = [GreedyOutput([5, 9], logits), GreedyOutput([7, 1], logits + torch.tensor([0.0, 0.5]))]
    distance = logit_distance(reference, export)
    assert distance.same_tokens == 3 / 5
    assert distance.same_answers == 1 / 2
    assert distance.max_difference == 0.5
    assert distance.mean_difference == 0.125
    assert distance.deviation == pytest.approx(torch.cat([logits, logits]).flatten().std().item())


@pytest.mark.parametrize("largest", [0.021, math.nan, math.inf])
def test_a_difference_above_the_limit_raises_an_error(largest: float) -> None:
    with pytest.raises(
        ModelError, match=r"out: logits must differ .* max_logit_error=0.02 standard .*, got"
    ):
        assert_parity(replace(PARITY, largest=largest), Path("out"))


def test_a_difference_below_the_limit_or_without_a_limit_passes() -> None:
    assert_parity(PARITY, Path("out"))
    assert_parity(replace(PARITY, largest=9.0, bound=None), Path("out"))


def test_the_difference_to_the_quantized_base_has_its_own_line() -> None:
    [line] = PARITY.summary_lines()
    assert line == (
        "export against base + adapter: logits differ by at most 0.02 (standard deviation "
        "of the logits: 2), 100.0% of the tokens are equal"
    )
    _, quantized_line = replace(PARITY, as_trained=NEAR, bits=4).summary_lines()
    assert quantized_line.startswith(
        "export against base in 4 bits + adapter, as trained: logits differ"
    )


def test_a_reduced_rank_has_the_kept_share_and_the_difference_to_the_full_rank() -> None:
    reduced = replace(PARITY, reduction=RankReduction(rank=8, kept_update=0.9712))
    assert reduced.summary_lines()[1:] == [
        "rank 8 keeps 97.1% of the squared norm of the adapter's update"
    ]
    assert replace(reduced, full_rank=replace(NEAR, same_answers=0.5)).summary_lines()[2] == (
        "export against base + adapter of full rank: logits differ by at most 0.02 (standard "
        "deviation of the logits: 2), 100.0% of the tokens are equal, 50.0% of the answers"
    )


def test_differing_answers_are_listed_without_a_tick(capsys: pytest.CaptureFixture[str]) -> None:
    prompts = [
        {"prompt": "ocr", "trained": str(i), "exported": "8" if i == 3 else str(i)}
        for i in range(8)
    ]
    report_parity(replace(PARITY, prompts=prompts), Path("out"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("✓ export against base + adapter")
    assert lines[-2:] == ["· 7 of 8 answers identical", "  'ocr': base + adapter '3', export '8'"]


def test_an_export_beyond_its_limit_gets_no_tick(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        report_parity(replace(PARITY, largest=1.0), Path("out"))
    assert capsys.readouterr().out == ""
