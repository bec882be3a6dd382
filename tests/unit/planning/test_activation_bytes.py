"""LoRA activations are predicted by the rule of the LoRA layers."""

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from palitune.models.adapters.fast_lora import _merging_is_cheaper
from palitune.planning.activation_bytes import Precision, is_merged_in_forward
from palitune.planning.model_shapes import Linear


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 64, 512])
def test_lora_is_predicted_to_be_merged_when_the_layers_merge_it(
    width: int, dtype: torch.dtype, rank: int
) -> None:
    linear = Linear("language.mlp", width, 4 * width, rank, False)
    base = torch.nn.Linear(width, 4 * width, dtype=dtype, device="meta")
    lora_a = torch.empty(rank, width, device="meta")
    assert is_merged_in_forward(linear, Precision(dtype.itemsize, None)) == _merging_is_cheaper(
        base, lora_a, num_rows=7
    )
    nf4 = Linear4bit(width, 4 * width, bias=False, compute_dtype=dtype, quant_type="nf4")
    nf4.load_state_dict({"weight": torch.ones(4 * width, width, dtype=dtype)})
    assert is_merged_in_forward(linear, Precision(dtype.itemsize, 4)) == _merging_is_cheaper(
        nf4.to("cpu"), lora_a, num_rows=7
    )
    assert not is_merged_in_forward(linear, Precision(4, 8))
