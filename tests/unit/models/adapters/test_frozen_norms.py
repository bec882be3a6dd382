"""Frozen norms give the stock outputs bit by bit and the stock gradients up to rounding."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

from palitune.models.adapters.frozen_norms import use_frozen_norms

WIDTH = 48


def norms(stock: type[nn.Module], dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A stock norm and one with the same frozen weight that is switched."""
    made = [nn.Sequential(stock(WIDTH, eps=1e-6)) for _ in range(2)]
    nn.init.normal_(made[0][0].weight, std=0.5)
    made[1].load_state_dict(made[0].state_dict())
    for each in made:
        each.to(dtype).requires_grad_(False)
    use_frozen_norms(made[1])
    assert type(made[1][0]) is not stock
    return made[0], made[1]


def run(norm: nn.Module, x: Tensor, d_output: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    output = norm(x)
    output.backward(d_output)
    assert x.grad is not None
    return output.detach(), x.grad


@pytest.mark.parametrize("stock", [GemmaRMSNorm, Gemma2RMSNorm])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_outputs_are_equal_and_gradients_too_in_float32(
    stock: type[nn.Module], scale: float
) -> None:
    plain, frozen = norms(stock, torch.float32)
    x, d_output = scale * torch.randn(3, 5, WIDTH), torch.randn(3, 5, WIDTH)
    (expected, expected_grad), (output, grad) = (run(n, x, d_output) for n in (plain, frozen))
    assert torch.equal(output, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-5, atol=1e-6 / scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_in_16_bits_are_as_near_to_float64_as_the_stock_ones(dtype: torch.dtype) -> None:
    plain, frozen = norms(Gemma2RMSNorm, dtype)
    x, d_output = torch.randn(64, WIDTH).to(dtype), torch.randn(64, WIDTH).to(dtype)
    (expected, stock_grad), (output, grad) = (run(n, x, d_output) for n in (plain, frozen))
    assert output.dtype == grad.dtype == dtype
    assert torch.equal(output, expected)
    exact = exact_gradient(x.double(), 1 + frozen[0].weight.double(), d_output.double())
    error, stock_error = ((each.double() - exact).norm() for each in (grad, stock_grad))
    assert error <= 1.01 * stock_error
    assert error < 0.01 * exact.norm()


def exact_gradient(x: Tensor, scale: Tensor, d_output: Tensor) -> Tensor:
    x.requires_grad_()
    output = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * scale
    return torch.autograd.grad(output, x, d_output)[0]


def test_the_formula_is_the_derivative() -> None:
    _, frozen = norms(Gemma2RMSNorm, torch.float32)
    x, direction = torch.randn(2, 4, WIDTH), torch.randn(2, 4, WIDTH)
    _, grad = run(frozen, x, torch.ones_like(x))
    with torch.no_grad():
        step = 1e-2
        change = (frozen(x + step * direction) - frozen(x - step * direction)).sum() / (2 * step)
    assert float((grad * direction).sum()) == pytest.approx(float(change), rel=2e-2, abs=2e-2)


def test_a_trained_norm_gets_the_gradient_of_its_weight() -> None:
    plain, frozen = norms(GemmaRMSNorm, torch.float32)
    x = torch.randn(4, WIDTH)
    for norm in (plain, frozen):
        norm.requires_grad_(True)
        norm(x.clone().requires_grad_()).sum().backward()
    assert frozen[0].weight.grad is not None
    assert torch.equal(frozen[0].weight.grad, plain[0].weight.grad)  # type: ignore[arg-type]


def test_half_of_the_bytes_are_saved_for_backward_in_16_bits() -> None:
    saved = []
    for norm in norms(Gemma2RMSNorm, torch.bfloat16):
        sizes: list[int] = []
        x = torch.randn(32, WIDTH, dtype=torch.bfloat16).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: (sizes.append(t.untyped_storage().nbytes()), t)[1],  # type: ignore[misc]
            lambda t: t,
        ):
            norm(x)
        saved.append(sum(sizes))
    assert saved[1] < 0.5 * saved[0]
