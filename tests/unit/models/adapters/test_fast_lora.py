"""Fast LoRA layers equal PEFT's own, in output and in every gradient."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from palitune.models.adapters.fast_lora import (
    FastLoraLinear,
    FastLoraLinear4bit,
    FastLoraLinear8bit,
    cached_lora_weights,
    use_fast_lora,
)


class TwoLayers(nn.Module):
    """A layer without a bias and one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(64, 128, bias=False), nn.Linear(128, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.wide(self.narrow(x))
        return output


def with_lora(network: nn.Module, **settings: Any) -> Any:
    targets = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=targets, **settings)
    peft: Any = get_peft_model(network, config)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return peft


def fast(peft: Any) -> Any:
    network = copy.deepcopy(peft)
    use_fast_lora(network)
    return network


def results(network: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, and the gradients of the input and of every trained weight."""
    network.zero_grad()
    x = x.clone().requires_grad_()
    torch.manual_seed(1)
    output = network(x)
    output.float().sin().sum().backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    return {"output": output.detach(), "input": x.grad, **trained}


def assert_same(network: Any, other: Any, x: torch.Tensor, tolerance: float = 1e-5) -> None:
    actual, expected = results(network, x), results(other, x)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert (actual[name] - value).norm() <= tolerance * value.norm(), name


@pytest.mark.parametrize("shape", [(5, 64), (2, 7, 64)])
def test_output_and_gradients_equal_pefts(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    peft = with_lora(TwoLayers())
    ours = fast(peft)
    assert sum(type(module) is FastLoraLinear for module in ours.modules()) == 2
    assert_same(ours, peft, torch.randn(shape))


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.4}, {"use_dora": True}])
def test_dropout_and_dora_use_pefts_implementation(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    peft = with_lora(TwoLayers(), **settings).train()
    assert_same(fast(peft), peft, torch.randn(3, 64), tolerance=0)


def test_a_disabled_or_merged_adapter_behaves_as_with_peft() -> None:
    torch.manual_seed(0)
    ours, x = fast(with_lora(TwoLayers())), torch.randn(3, 64)
    with_adapter = ours(x)
    with ours.disable_adapter():
        assert torch.equal(ours(x), ours.get_base_model().wide.get_base_layer()(
            ours.get_base_model().narrow.get_base_layer()(x)
        ))  # fmt: skip
    ours.merge_adapter()
    assert torch.allclose(ours(x), with_adapter, atol=1e-4)
    ours.unmerge_adapter()
    assert torch.allclose(ours(x), with_adapter, atol=1e-4)


@pytest.mark.parametrize(
    ("bits", "kind", "outputs"),
    [(4, FastLoraLinear4bit, 128), (4, FastLoraLinear4bit, 8192), (8, FastLoraLinear8bit, 128)],
    ids=["nf4", "nf4, wide", "int8"],
)
def test_quantized_layers_give_pefts_gradients(bits: int, kind: type, outputs: int) -> None:
    import bitsandbytes as bnb

    torch.manual_seed(0)
    exact = {"compute_dtype": torch.float32, "quant_type": "nf4"}
    layer = (
        bnb.nn.Linear4bit(256, outputs, bias=False, **exact)
        if bits == 4
        else bnb.nn.Linear8bitLt(256, outputs, bias=False, has_fp16_weights=False)
    )
    layer.load_state_dict({"weight": torch.randn(outputs, 256) / 16})
    network = nn.Sequential(layer.to("cpu"))
    setattr(network, f"is_loaded_in_{bits}bit", True)  # PEFT selects its layer class by this
    peft = with_lora(network)
    ours = fast(peft)
    assert sum(type(module) is kind for module in ours.modules()) == 1
    assert_same(ours, peft, torch.randn(6, 256), tolerance=1e-5 if bits == 4 else 1e-3)


def test_a_16_bit_base_keeps_its_precision_and_float32_gradients() -> None:
    torch.manual_seed(0)
    peft = with_lora(TwoLayers().bfloat16())
    x = torch.randn(9, 64).bfloat16()
    exact = results(copy.deepcopy(peft).float(), x.float())
    theirs, ours = results(peft, x), results(fast(peft), x)
    assert ours["output"].dtype == torch.bfloat16
    assert {value.dtype for name, value in ours.items() if "lora" in name} == {torch.float32}
    for name, value in exact.items():
        error, error_of_peft = (
            float((actual[name].float() - value).norm() / value.norm()) for actual in (ours, theirs)
        )
        assert error < 2 * error_of_peft + 0.01, name


def test_weights_are_cast_once_inside_the_cache_with_the_same_results() -> None:
    torch.manual_seed(0)
    ours, x = fast(with_lora(TwoLayers()).to(torch.bfloat16)), torch.randn(3, 64).bfloat16()
    layers = [module for module in ours.modules() if isinstance(module, FastLoraLinear)]
    with torch.inference_mode():
        expected = ours(x)
        with cached_lora_weights(ours):
            assert torch.equal(ours(x), expected)
            cast = [layer.cast_weights["default", torch.bfloat16] for layer in layers]
            assert torch.equal(ours(x), expected)
            assert all(
                layer.cast_weights["default", torch.bfloat16] is pair
                for layer, pair in zip(layers, cast, strict=True)
            )
        assert all(layer.cast_weights is None for layer in layers)
        for layer in layers:
            layer.lora_B["default"].weight.mul_(2)
        assert not torch.equal(ours(x), expected), "changed weights are used after the cache"


def test_gradients_are_the_same_when_the_layers_are_recomputed() -> None:
    torch.manual_seed(0)
    ours, x = fast(with_lora(TwoLayers())), torch.randn(3, 64)
    expected = results(ours, x)

    def recomputed(x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = checkpoint(ours, x, use_reentrant=False)
        return output

    ours.zero_grad()
    x = x.clone().requires_grad_()
    recomputed(x).float().sin().sum().backward()
    assert torch.equal(x.grad, expected["input"])
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter.grad, expected[name]), name


def test_every_adapter_of_several_equals_peft_without_its_forward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    peft = with_lora(TwoLayers())
    peft.add_adapter("small", LoraConfig(r=2, lora_alpha=3, target_modules=["narrow"]))
    peft.add_adapter("both", LoraConfig(r=5, lora_alpha=9, target_modules=["narrow", "wide"]))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    ours, x, outputs = fast(peft), torch.randn(3, 64), []
    for name in ("default", "small", "both", "default"):
        for network in (peft, ours):
            network.set_adapter(name)
        assert_same(ours, peft, x)
        with torch.inference_mode(), cached_lora_weights(ours):
            outputs.append(ours(x))
            assert torch.allclose(ours(x), peft(x), atol=1e-5), name
    assert torch.equal(outputs[0], outputs[3])
    assert len({float(output.sum()) for output in outputs}) == 3

    def fail(*args: object) -> None:
        raise AssertionError("the layer used PEFT's forward pass")

    monkeypatch.setattr("peft.tuners.lora.layer.Linear.forward", fail)
    ours.set_adapter("both")
    assert ours(x).shape == (3, 512)


def test_a_change_of_adapters_inside_the_cache_uses_the_weights_of_each() -> None:
    torch.manual_seed(0)
    ours, x = fast(with_lora(TwoLayers())), torch.randn(3, 64)
    ours.add_adapter("other", LoraConfig(r=2, target_modules=["narrow", "wide"]))
    use_fast_lora(ours)
    with torch.inference_mode(), cached_lora_weights(ours):
        default = ours(x)
        ours.set_adapter("other")
        other = ours(x)
        ours.set_adapter("default")
        assert torch.equal(ours(x), default)
        assert not torch.equal(other, default)
