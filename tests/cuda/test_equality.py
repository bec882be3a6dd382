"""Results on a GPU equal those on the CPU: answers, attention, masks, optimizer states."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import PagedAdamW8bit

from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.config import Full, Lora, Qlora
from palitune.models.config import AttentionImplementation, Device, Dtype, Local
from palitune.models.devices import full_float32_precision
from palitune.models.generation.generate import generate
from palitune.models.lm_head import loss_positions
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.training.self_check import check_mask
from palitune.training.state.paged_optimizer import restore_paging

pytestmark = pytest.mark.cuda

GPU = Device.cuda
FAMILIES = ["paligemma", "paligemma2"]


def collator_of(base: Path) -> Collator:
    return Collator(load_processor(Local(path=str(base), device=Device.cpu)))


@pytest.fixture
def samples(examples: list[Example]) -> list[TrainingSample]:
    return [TrainingSample(example, example.suffixes[0]) for example in examples]


def on_device(network: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to(network.device) for name, tensor in batch.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_are_those_of_the_cpu(
    family: str, num_beams: int, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    collator = collator_of(tiny(family))
    prompts = collator.collate_prompts(examples)
    answers = []
    for device in (Device.cpu, GPU):
        network = load(Local(path=str(tiny(family)), device=device, dtype=Dtype.fp32))
        with full_float32_precision():
            answers.append(generate(network, collator.tokenizer, prompts, 8, num_beams=num_beams))
    on_cpu, on_gpu = ([answer.token_ids for answer in side] for side in answers)
    assert on_gpu == on_cpu


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_gives_the_logits_and_gradients_of_eager_on_the_cpu(
    family: str, tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    batch = collator_of(tiny(family)).collate_train(samples)
    positions = loss_positions(batch.pop("labels"))

    def results(attention: AttentionImplementation, device: Device) -> list[torch.Tensor]:
        model = Local(path=str(tiny(family)), device=device, dtype=Dtype.fp32, attention=attention)
        network: Any = Full().apply_to(load(model))
        with full_float32_precision():
            inputs = on_device(network, {**batch, "logits_to_keep": positions})
            logits = network(**inputs).logits
            logits.square().mean().backward()
        gradients = (p.grad for p in network.model.language_model.parameters())
        return [tensor.detach().cpu() for tensor in (logits, *gradients)]

    expected = results(AttentionImplementation.eager, Device.cpu)
    kinds = [kind for kind in AttentionImplementation if kind.name != "sdpa" or family[-1] != "2"]
    for kind in kinds:
        for ours, eager in zip(results(kind, GPU), expected, strict=True):
            assert (ours - eager).norm() <= 1e-3 * eager.norm(), kind


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", [Lora(), Qlora(), Qlora(bits=8), Full()])
def test_the_mask_is_right_in_the_default_dtype(
    family: str, adapter: Any, tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    base = tiny(family)
    network = adapter.apply_to(load(Local(path=str(base), device=GPU), adapter))
    assert network.device.type == GPU.value
    assert len(check_mask(network, collator_of(base).collate_train(samples))) == 2


def test_the_products_of_full_fine_tuning_are_in_bf16(
    tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    base = tiny("paligemma2")
    network: Any = Full().apply_to(load(Local(path=str(base), device=GPU), Full()))
    assert network.autocast_dtype == torch.bfloat16
    batch = on_device(network, collator_of(base).collate_train(samples))
    loss = network(**batch).loss.mean()
    network.autocast_dtype = None
    exact = network(**batch).loss.mean()
    assert 0 < abs(float(loss - exact)) < 0.05 * float(exact)


def test_a_resumed_paged_optimizer_is_paged_and_takes_the_same_step() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(3, 400, 400, device=GPU.value)

    def step(optimizer: Any, gradient: torch.Tensor) -> None:
        (parameter,) = optimizer.param_groups[0]["params"]
        parameter.grad = gradient.clone()
        optimizer.step()

    whole = PagedAdamW8bit([torch.nn.Parameter(torch.ones(400, 400, device=GPU.value))])
    for gradient in gradients[:2]:
        step(whole, gradient)
    (weight,) = whole.param_groups[0]["params"]
    resumed = PagedAdamW8bit([torch.nn.Parameter(weight.detach().clone())])
    resumed.load_state_dict(whole.state_dict())
    restore_paging(resumed)
    (state,) = resumed.state.values()
    assert state["state1"].is_paged
    assert state["state2"].is_paged
    for optimizer in (whole, resumed):
        step(optimizer, gradients[2])
    assert torch.equal(resumed.param_groups[0]["params"][0], weight)
