"""Quantized networks: gradients, dtypes, and which layers are quantized."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import AutoProcessor

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.config import Qlora
from palitune.models.config import Dtype, Local
from palitune.models.lm_head import loss_positions
from palitune.models.loading import load, load_for_training
from palitune.records import Example

FAMILIES = ["paligemma", "paligemma2"]
QUANTIZED = [Qlora(rank=4), Qlora(rank=4, bits=8)]
Gradients = dict[str, torch.Tensor]


def perturbed_network(model: Local, adapter: Qlora) -> Any:
    """Return a network in training mode with random LoRA weights, so that all have gradients."""
    torch.manual_seed(0)
    network = load_for_training(model, adapter)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05)
    return network.train()


def gradients(network: Any, batch: Batch) -> Gradients:
    inputs = dict(batch)
    positions = loss_positions(inputs.pop("labels"))
    network.zero_grad()
    network(**inputs, logits_to_keep=positions).logits.float().square().mean().backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.requires_grad}


def evaluate(network: Any, batch: Batch, prompts: Batch) -> None:
    """Run forward passes without gradients, as an evaluation during training does."""
    network.eval()
    with torch.inference_mode():
        network.generate(**prompts, max_new_tokens=3, do_sample=False)
    with torch.no_grad():
        network(**{key: value for key, value in batch.items() if key != "labels"})
    network.train()


@pytest.fixture
def collated(tiny: Callable[[str], Path], examples: list[Example]) -> tuple[Batch, Batch]:
    """Return a training batch and the prompts of the same examples, for all tiny models."""
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma")))
    samples = [TrainingSample(example, example.suffixes[0]) for example in examples]
    return collator.collate_train(samples), collator.collate_prompts(examples)


@pytest.mark.parametrize("adapter", QUANTIZED, ids=["nf4", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_same_before_and_after_an_evaluation(
    family: str,
    adapter: Qlora,
    tiny: Callable[[str], Path],
    collated: tuple[Batch, Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Simulate a CPU on which bitsandbytes would repack the weights for inference.
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    batch, prompts = collated
    network = perturbed_network(Local(path=str(tiny(family))), adapter)
    before = gradients(network, batch)
    evaluate(network, batch, prompts)
    after = gradients(network, batch)
    assert all(gradient.abs().sum() > 0 for gradient in before.values())
    assert all(torch.equal(after[name], gradient) for name, gradient in before.items())


@pytest.mark.parametrize(
    ("adapter", "bound"),
    # In training on a CPU, bitsandbytes multiplies int8 weights with activations in float; in
    # evaluation it quantizes the activations too. 4-bit layers compute the same in both modes.
    [(QUANTIZED[0], 0.0), (QUANTIZED[1], 0.03)],
    ids=["nf4", "int8"],
)
def test_logits_are_the_same_in_training_and_evaluation(
    adapter: Qlora, bound: float, tiny: Callable[[str], Path], collated: tuple[Batch, Batch]
) -> None:
    batch, prompts = collated
    network = perturbed_network(Local(path=str(tiny("paligemma2"))), adapter)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    training = network(**inputs).logits
    evaluate(network, batch, prompts)
    with torch.no_grad():
        difference = network.eval()(**inputs).logits - training
    assert difference.norm() <= bound * training.norm()


def test_gradient_checkpointing_changes_no_gradient_of_a_quantized_network(
    tiny: Callable[[str], Path], collated: tuple[Batch, Batch]
) -> None:
    plain = gradients(
        perturbed_network(Local(path=str(tiny("paligemma2"))), QUANTIZED[0]), collated[0]
    )
    network = perturbed_network(Local(path=str(tiny("paligemma2"))), QUANTIZED[0])
    network.gradient_checkpointing_enable({"use_reentrant": False})
    for name, gradient in gradients(network, collated[0]).items():
        assert torch.equal(gradient, plain[name])


@pytest.mark.parametrize(
    ("dtype", "compute_dtype", "expected"),
    [
        (Dtype.fp32, Dtype.auto, torch.float32),
        (Dtype.fp32, Dtype.bf16, torch.bfloat16),
        (Dtype.bf16, Dtype.auto, torch.bfloat16),
        (Dtype.bf16, Dtype.fp32, torch.float32),
    ],
)
def test_four_bit_layers_multiply_in_the_requested_dtype(
    dtype: Dtype,
    compute_dtype: Dtype,
    expected: torch.dtype,
    tiny: Callable[[str], Path],
    collated: tuple[Batch, Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = set()
    multiply = bitsandbytes.matmul_4bit

    def record_dtype(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        used.add(inputs.dtype)
        product: torch.Tensor = multiply(inputs, *args, **kwargs)
        return product

    monkeypatch.setattr(bitsandbytes, "matmul_4bit", record_dtype)
    model = Local(path=str(tiny("paligemma2")), dtype=dtype)
    network = perturbed_network(model, Qlora(rank=4, compute_dtype=compute_dtype))
    gradients(network, collated[0])
    assert used == {expected}


def test_four_bits_are_nf4_with_double_quantization(tiny: Callable[[str], Path]) -> None:
    network = load(Local(path=str(tiny("paligemma"))), Qlora())
    states = [m.weight.quant_state for m in network.modules() if isinstance(m, Linear4bit)]
    assert {(state.quant_type, state.nested, state.blocksize) for state in states} == {
        ("nf4", True, 64)
    }


@pytest.mark.parametrize("adapter", QUANTIZED, ids=["nf4", "int8"])
def test_vision_tower_projector_and_head_are_not_quantized(
    adapter: Qlora, tiny: Callable[[str], Path]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    plain = dict(load(model).named_parameters())
    quantized = dict(load(model, adapter).named_parameters())
    language = {f"{name}.weight" for name in Qlora().target_modules(load(model))}
    assert quantized.keys() == plain.keys()
    for name in plain.keys() - language:
        assert torch.equal(quantized[name], plain[name])


@pytest.mark.parametrize(
    ("adapter", "kind", "low", "high"),
    [
        # Recorded on weights drawn from a normal distribution with bitsandbytes 0.50.2 on a CPU:
        # 0.092 for NF4 and 0.008 for int8.
        (QUANTIZED[0], Linear4bit, 0.06, 0.12),
        (QUANTIZED[1], Linear8bitLt, 0.004, 0.02),
    ],
    ids=["nf4", "int8"],
)
def test_the_error_of_quantized_layers_is_as_recorded(
    adapter: Qlora, kind: type, low: float, high: float, tiny: Callable[[str], Path]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    plain, quantized = load(model), load(model, adapter)
    inputs = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    for name, module in quantized.named_modules():
        if isinstance(module, kind) and module.in_features == 64:
            with torch.no_grad():
                expected = plain.get_submodule(name)(inputs)
                error = (module(inputs) - expected).norm() / expected.norm()
            assert low < error < high
