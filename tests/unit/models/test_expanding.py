"""Small NF4 layers that are kept expanded equal bitsandbytes' own, in output and in gradients."""

import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn

from palitune.models.expanding import CachedDequantLinear4bit, cache_dequantized


def nf4(outputs: int, seed: int = 0) -> Linear4bit:
    torch.manual_seed(seed)
    layer = Linear4bit(256, outputs, compute_dtype=torch.float32, quant_type="nf4")
    return layer.to("cpu")


def small(layer: Linear4bit) -> CachedDequantLinear4bit:
    network = nn.Sequential(copy.deepcopy(layer))
    cache_dequantized(network)
    return network[0]


def results(layer: Linear4bit, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    output = layer(x)
    output.sin().sum().backward()
    assert x.grad is not None
    return output.detach(), x.grad


def test_only_small_layers_are_kept_expanded() -> None:
    assert type(small(nf4(256))) is CachedDequantLinear4bit
    assert type(small(nf4(257))) is Linear4bit


@pytest.mark.parametrize("shape", [(6, 256), (2, 3, 256)])
def test_outputs_and_gradients_are_those_of_bitsandbytes(shape: tuple[int, ...]) -> None:
    layer, x = nf4(128), torch.randn(shape)
    ours = small(layer)
    for _ in range(2):  # the second time with the weight that was kept
        for found, wanted in zip(results(ours, x), results(layer, x), strict=True):
            assert (found - wanted).norm() <= 1e-6 * wanted.norm()


def test_another_weight_is_expanded_anew() -> None:
    layer, other, x = small(nf4(128)), nf4(128, seed=1), torch.randn(6, 256)
    before = layer(x)
    layer.weight, layer.bias = other.weight, other.bias
    assert torch.allclose(layer(x), other(x), atol=1e-6)
    assert not torch.allclose(layer(x), before, atol=0.1)


def test_another_precision_goes_the_way_of_bitsandbytes() -> None:
    layer, x = nf4(128), torch.randn(6, 256).bfloat16()
    assert torch.equal(small(layer)(x), layer(x))
