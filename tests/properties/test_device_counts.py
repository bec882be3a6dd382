"""Launches, host syncs and copies of a step on a GPU, counted on a CPU; they may only fall.

`device_counts.json` has the allowed numbers of the 3B models: a training micro-step of two rows of
304 tokens, and one token of generation for two prompts, with torch 2.13, transformers 5.23 and
PEFT 0.21. After an improvement, write the new numbers into it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from palitune.codec.grammar import ObjectGrammar

from support.device_counts_table import PROPERTY
from support.device_steps import Totals, at_full_depth, count_decoding_step, count_micro_step
from support.pretend_device import DEVICE, PretendDevice

ALLOWED: dict[str, Totals] = json.loads(
    Path(__file__).with_name("device_counts.json").read_text(encoding="utf-8")
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (200, 20, 20)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {}),
        ("qlora", {"quantized": True}),
        ("lora, checkpointing", {"checkpointing": True}),
    ],
)
def test_a_training_step_needs_no_more_than_recorded(
    family: str,
    name: str,
    options: dict[str, Any],
    image: Path,
    tmp_path: Path,
    record_property: Callable[[str, Any], None],
) -> None:
    totals = at_full_depth(
        family, lambda layers: count_micro_step(family, image, tmp_path, layers, **options)[1]
    )
    check(f"training, {family}, {name}", totals, record_property)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lora", {}),
        ("qlora", {"quantized": True}),
        ("3 beams", {"num_beams": 3}),
        ("labels", {"grammar": ObjectGrammar(labels=("car", "red boat"))}),
        ("free text", {"grammar": ObjectGrammar(labels=None)}),
    ],
)
def test_a_generated_token_needs_no_more_than_recorded(
    family: str,
    name: str,
    options: dict[str, Any],
    image: Path,
    record_property: Callable[[str, Any], None],
) -> None:
    totals = at_full_depth(
        family, lambda layers: count_decoding_step(family, image, layers, **options)[1]
    )
    check(f"token, {family}, {name}", totals, record_property)


def check(name: str, totals: Totals, record_property: Callable[[str, Any], None]) -> None:
    allowed = ALLOWED.get(name, dict.fromkeys(totals, 0))
    record_property(PROPERTY, (name, totals, allowed))
    assert totals["mixes"] == 0
    assert all(totals[kind] <= allowed[kind] for kind in totals), (
        f"{name} needs {totals}, allowed are {allowed}"
    )


def test_every_kind_is_counted() -> None:
    device = PretendDevice()
    with device.active() as counts:
        values = device.tensor(torch.arange(6.0))
        doubled = (values * 2).view(2, 3)
        assert doubled.device == DEVICE
        assert counts.totals() == {"launches": 1, "syncs": 0, "copies": 0, "mixes": 0}
        assert doubled.sum().item() == 30
        assert values[values > 3].tolist() == [4, 5]
        assert values.cpu().device.type == "cpu"
        assert counts.totals()["syncs"] == 4
        torch.tensor([1, 2], device=DEVICE)
        torch.ones(2).to(DEVICE)
        assert counts.totals()["copies"] == 2
        values + torch.ones(6)
        assert counts.totals()["mixes"] == 1


def test_values_and_gradients_on_the_device_are_those_on_the_cpu() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
    x = torch.randn(3, 4)
    network(x).sum().backward()
    expected = [parameter.grad for parameter in network.parameters()]
    device = PretendDevice()
    with device.active() as counts:
        device.move(network)
        network(device.tensor(x)).sum().backward()
        assert counts.mixes.total() == 0
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad.values, gradient)
