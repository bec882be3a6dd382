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
    """Return the change of one base weight by the merged adapters."""
    merged = merge_adapter(load_combined(model, combination, quantized=False))
    weights: dict[str, Any] = load(model).state_dict()
    difference: torch.Tensor = merged.state_dict()[PROJECTION] - weights[PROJECTION]
    return difference


def test_cat_is_the_weighted_sum_whatever_the_ranks(model: Local, tmp_path: Path) -> None:
    one = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "one", seed=1)
    other = save_perturbed_adapter(
        model, Lora(rank=4, targets=["language", "vision"]), tmp_path / "other", seed=2
    )
    alone = [change(model, AdapterCombination(paths=[path])) for path in (one, other)]
    sum_of_both = change(model, AdapterCombination(paths=[one, other]))
    torch.testing.assert_close(sum_of_both, alone[0] + alone[1], atol=1e-6, rtol=0)
    weighted = change(model, AdapterCombination(paths=[one, other], weights=[0.25, -0.5]))
    torch.testing.assert_close(weighted, 0.25 * alone[0] - 0.5 * alone[1], atol=1e-6, rtol=0)


def test_linear_adds_factors_of_one_rank(model: Local, tmp_path: Path) -> None:
    one = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "one", seed=1)
    # Factors weighted by the root of 1/4 each: both of them, A and B, come out as they were.
    half = AdapterCombination(
        paths=[one, one], weights=[0.25, 0.25], combination_type=CombinationType.linear
    )
    alone = change(model, AdapterCombination(paths=[one]))
    torch.testing.assert_close(change(model, half), alone, atol=1e-6, rtol=0)
    other = save_perturbed_adapter(model, Lora(rank=4), tmp_path / "other", seed=2)
    with pytest.raises(ModelError, match="adapters: PEFT cannot combine these adapters: "):
        change(
            model, AdapterCombination(paths=[one, other], combination_type=CombinationType.linear)
        )


def test_only_loras_of_this_base_are_combined(model: Local, tmp_path: Path) -> None:
    one = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "one", seed=1)
    full = save_perturbed_adapter(
        model, Full(trainable_parts=["projector"]), tmp_path / "full", seed=1
    )
    with pytest.raises(ModelError, match="is not a LoRA adapter; only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[full, one]), quantized=False)
    with pytest.raises(ModelError, match="is not a LoRA adapter; only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[one, full]), quantized=False)
    strange = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    other = save_perturbed_adapter(strange, Lora(rank=2), tmp_path / "other", seed=1)
    with pytest.raises(
        ModelError, match=r"weights differ from this model's\. .*allow_base_mismatch=true"
    ):
        load_combined(model, AdapterCombination(paths=[one, other]), quantized=False)
    forced = AdapterCombination(paths=[one, other], allow_base_mismatch=True)
    assert change(model, forced).abs().max() > 0
