"""Combined adapters are the weighted sum of the adapters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.errors import ModelError
from palitune.models.adapters.combination import AdapterCombination, CombinationType
from palitune.models.adapters.config import Full, Lora
from palitune.models.adapters.merging import merge_adapter
from palitune.models.config import Local
from palitune.models.loading import load, load_combined

from support.tiny_models import build_tiny, save_perturbed_adapter

PROJECTION = "model.language_model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma")))


def change(model: Local, combination: AdapterCombination) -> torch.Tensor:
    """Return the change of first base weight by the merged adapters."""
    merged = merge_adapter(load_combined(model, combination, quantized=False))
    weights: dict[str, Any] = load(model).state_dict()
    difference: torch.Tensor = merged.state_dict()[PROJECTION] - weights[PROJECTION]
    return difference


def test_cat_is_the_weighted_sum_for_any_ranks(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    second = save_perturbed_adapter(
        model, Lora(rank=4, targets=["language", "vision"]), tmp_path / "second", seed=2
    )
    alone = [change(model, AdapterCombination(paths=[path])) for path in (first, second)]
    sum_of_both = change(model, AdapterCombination(paths=[first, second]))
    torch.testing.assert_close(sum_of_both, alone[0] + alone[1], atol=1e-6, rtol=0)
    weighted = change(model, AdapterCombination(paths=[first, second], weights=[0.25, -0.5]))
    torch.testing.assert_close(weighted, 0.25 * alone[0] - 0.5 * alone[1], atol=1e-6, rtol=0)


def test_linear_adds_the_factors_of_adapters_of_equal_rank(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    # Both factors are weighted by the root of 1/4, so the sum of two copies is the adapter itself.
    half = AdapterCombination(
        paths=[first, first], weights=[0.25, 0.25], combination_type=CombinationType.linear
    )
    alone = change(model, AdapterCombination(paths=[first]))
    torch.testing.assert_close(change(model, half), alone, atol=1e-6, rtol=0)
    second = save_perturbed_adapter(model, Lora(rank=4), tmp_path / "second", seed=2)
    with pytest.raises(ModelError, match="adapters: PEFT cannot combine these adapters: "):
        change(
            model,
            AdapterCombination(paths=[first, second], combination_type=CombinationType.linear),
        )


def test_only_lora_adapters_of_this_base_are_combined(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    full = save_perturbed_adapter(
        model, Full(trainable_parts=["projector"]), tmp_path / "full", seed=1
    )
    with pytest.raises(ModelError, match="only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[full, first]), quantized=False)
    with pytest.raises(ModelError, match="only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[first, full]), quantized=False)
    other_base = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    second = save_perturbed_adapter(other_base, Lora(rank=2), tmp_path / "second", seed=1)
    with pytest.raises(
        ModelError, match=r"weights differ from this model's\. .*allow_base_mismatch=true"
    ):
        load_combined(model, AdapterCombination(paths=[first, second]), quantized=False)
    allowed = AdapterCombination(paths=[first, second], allow_base_mismatch=True)
    assert change(model, allowed).abs().max() > 0
