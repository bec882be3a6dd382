"""Several adapters put on as one do what their weights say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune import models
from palitune.models.adapters import Full, Lora
from palitune.models.checkpoints import Local, ModelError
from palitune.models.combining import Combination, Rule
from palitune.models.merging import merge

from tiny_models import build_tiny, save_moved

PROJECTION = "model.language_model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma")))


def change(model: Local, combination: Combination) -> torch.Tensor:
    """What merging changes in one of the base's weights."""
    merged = merge(models.load_combined(model, combination, quantized=False))
    weights: dict[str, Any] = models.load(model).state_dict()
    found: torch.Tensor = merged.state_dict()[PROJECTION] - weights[PROJECTION]
    return found


def test_cat_is_the_weighted_sum_whatever_the_ranks(model: Local, tmp_path: Path) -> None:
    one = save_moved(model, Lora(rank=2), tmp_path / "one", seed=1)
    other = save_moved(
        model, Lora(rank=4, targets=["language", "vision"]), tmp_path / "other", seed=2
    )
    alone = [change(model, Combination(paths=[path])) for path in (one, other)]
    sum_of_both = change(model, Combination(paths=[one, other]))
    torch.testing.assert_close(sum_of_both, alone[0] + alone[1], atol=1e-6, rtol=0)
    weighted = change(model, Combination(paths=[one, other], weights=[0.25, -0.5]))
    torch.testing.assert_close(weighted, 0.25 * alone[0] - 0.5 * alone[1], atol=1e-6, rtol=0)


def test_linear_adds_factors_of_one_rank(model: Local, tmp_path: Path) -> None:
    one = save_moved(model, Lora(rank=2), tmp_path / "one", seed=1)
    # Factors weighted by the root of 1/4 each: both of them, A and B, come out as they were.
    half = Combination(paths=[one, one], weights=[0.25, 0.25], rule=Rule.linear)
    alone = change(model, Combination(paths=[one]))
    torch.testing.assert_close(change(model, half), alone, atol=1e-6, rtol=0)
    other = save_moved(model, Lora(rank=4), tmp_path / "other", seed=2)
    with pytest.raises(ModelError, match="combine: PEFT cannot make one of these adapters: "):
        change(model, Combination(paths=[one, other], rule=Rule.linear))


def test_only_loras_of_this_base_are_combined(model: Local, tmp_path: Path) -> None:
    one = save_moved(model, Lora(rank=2), tmp_path / "one", seed=1)
    full = save_moved(model, Full(train=["projector"]), tmp_path / "full", seed=1)
    with pytest.raises(ModelError, match="is no LoRA; only LoRA adapters are combined"):
        models.load_combined(model, Combination(paths=[full, one]), quantized=False)
    with pytest.raises(ModelError, match="is no LoRA; only LoRA adapters are combined"):
        models.load_combined(model, Combination(paths=[one, full]), quantized=False)
    strange = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    other = save_moved(strange, Lora(rank=2), tmp_path / "other", seed=1)
    with pytest.raises(ModelError, match=r"weights differ from this model's; .*any_base=true"):
        models.load_combined(model, Combination(paths=[one, other]), quantized=False)
    forced = Combination(paths=[one, other], any_base=True)
    assert change(model, forced).abs().max() > 0
