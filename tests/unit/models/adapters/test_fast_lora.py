"""Lean LoRA layers equal PEFT's own, in output and in every gradient."""

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from palitune.models.adapters.fast_lora import (
    FastLoraLinear,
    FastLoraLinear4bit,
    FastLoraLinear8bit,
    _merging_is_cheaper,
    use_fast_lora,
)


class Two(nn.Module):
    """A layer so narrow that a rank of 16 is folded into it, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(64, 128, bias=False), nn.Linear(128, 512)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide: torch.Tensor = self.wide(self.narrow(x))
        return wide


def adapted(network: nn.Module, **settings: Any) -> Any:
    targets = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=targets, **settings)
    peft: Any = get_peft_model(network, config)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return peft


def lean(peft: Any) -> Any:
    copied = copy.deepcopy(peft)
    use_fast_lora(copied)
    return copied


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
    found, wanted = results(network, x), results(other, x)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] - value).norm() <= tolerance * value.norm(), name


@pytest.mark.parametrize("shape", [(5, 64), (2, 7, 64)])
def test_output_and_gradients_equal_pefts(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    peft = adapted(Two())
    ours = lean(peft)
    assert sum(type(module) is FastLoraLinear for module in ours.modules()) == 2
    assert_same(ours, peft, torch.randn(shape))


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.4}, {"use_dora": True}])
def test_what_is_not_plain_lora_goes_pefts_way(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    peft = adapted(Two(), **settings).train()
    assert_same(lean(peft), peft, torch.randn(3, 64), tolerance=0)


def test_an_adapter_that_is_switched_off_or_merged_is_as_with_peft() -> None:
    torch.manual_seed(0)
    ours, x = lean(adapted(Two())), torch.randn(3, 64)
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
    ids=["nf4, folded", "nf4", "int8"],
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
    setattr(network, f"is_loaded_in_{bits}bit", True)  # what PEFT chooses its layers by
    peft = adapted(network)
    ours = lean(peft)
    [layer] = [module for module in ours.modules() if type(module) is kind]
    x = torch.randn(6, 256)
    assert_same(ours, peft, x, tolerance=1e-5 if bits == 4 else 1e-3)
    folded = _merging_is_cheaper(layer.get_base_layer(), layer.lora_A["default"].weight, num_rows=6)
    assert folded == (bits == 4 and outputs == 128)


def test_a_16_bit_base_keeps_its_precision_and_float32_gradients() -> None:
    torch.manual_seed(0)
    peft = adapted(Two().bfloat16())
    x = torch.randn(9, 64).bfloat16()
    exact = results(copy.deepcopy(peft).float(), x.float())
    theirs, ours = results(peft, x), results(lean(peft), x)
    assert ours["output"].dtype == torch.bfloat16
    assert {value.dtype for name, value in ours.items() if "lora" in name} == {torch.float32}
    for name, value in exact.items():
        error, error_of_peft = (
            float((found[name].float() - value).norm() / value.norm()) for found in (ours, theirs)
        )
        assert error < 2 * error_of_peft + 0.01, name


@pytest.mark.parametrize("rows", [8, 300])
def test_without_gradients_many_rows_are_worth_a_folded_weight(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    peft = adapted(Two())
    network, x = lean(peft), torch.randn(rows, 64)
    products: list[int] = []
    whole = torch.addmm
    monkeypatch.setattr(
        torch, "addmm", lambda *told, **how: products.append(1) or whole(*told, **how)
    )
    with torch.no_grad():
        assert torch.allclose(network(x), peft(x), atol=1e-4)
    assert len(products) == (2 if rows == 300 else 1), "the narrow layer's is folded anyhow"
