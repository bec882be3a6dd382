"""Training and decoding steps of the real code on a pretended device.

The counts are those of PaliGemma 3B and PaliGemma 2 3B. They do not depend on the width of a layer
and grow linearly with the number of layers, so that networks of a few narrow layers suffice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any
from unittest.mock import patch

import bitsandbytes as bnb
import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import PaliGemmaConfig

from palitune.codec.grammar import ObjectGrammar
from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.models import attention, loading
from palitune.models.adapters.config import Lora
from palitune.models.config import AttentionImplementation, PaliGemma, PaliGemma2
from palitune.models.generation.generate import generate
from palitune.models.generation.kv_cache import KVCacheDecoder
from palitune.models.paligemma import PaliGemmaPrefixLM
from palitune.records import Example
from palitune.training.arguments import build_training_arguments
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.trainer import PrefixTrainer

from .pretend_device import DEVICE, DeviceCounts, PretendDevice
from .tiny_models import build_model, build_processor

IMAGE_SIZE = 224
LANGUAGE_LAYERS = {"paligemma": 18, "paligemma2": 26}
VISION_LAYERS = 27
PREFIX_TOKENS, SUFFIX_TOKENS = 32, 16
"""With 256 image tokens a row has 304 tokens."""
BATCH_SIZE = 2

Totals = dict[str, int]


class FakeLinear4bit(bnb.nn.Linear4bit):  # type: ignore[misc]
    """An NF4 layer whose dequantization is a copy of its weight, one launch as on a GPU."""

    dense: Tensor

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = _DequantizedProduct.apply(x, self.dense)  # type: ignore[no-untyped-call]
        return output


class _DequantizedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.weight = weight
        # Without gradients bitsandbytes has one kernel for both.
        return F.linear(x, weight.clone() if ctx.needs_input_grad[0] else weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] @ ctx.weight.clone(), None


@cache
def _processor() -> Any:
    return build_processor(IMAGE_SIZE)


def at_full_depth(family: str, count: Callable[[tuple[int, int]], Totals]) -> Totals:
    """Extrapolate the counts by language and vision layers to those of the 3B model."""
    base, more_language, more_vision = count((2, 1)), count((4, 1)), count((2, 2))
    return {
        kind: total
        + (LANGUAGE_LAYERS[family] - 2) * (more_language[kind] - total) // 2
        + (VISION_LAYERS - 1) * (more_vision[kind] - total)
        for kind, total in base.items()
    }


def build_network(family: str, processor: Any, layers: tuple[int, int], *, quantized: bool) -> Any:
    """Build a random network with LoRA on the language model, in bfloat16, on the CPU.

    `layers`: number of language and of vision layers.
    """
    small = build_model(processor, family, image_size=IMAGE_SIZE).config.to_dict()
    small["text_config"].pop("layer_types", None)
    small["text_config"]["num_hidden_layers"], small["vision_config"]["num_hidden_layers"] = layers
    config = PaliGemmaConfig(**small)
    loading.configure_softcaps(PaliGemma2(), config)
    attention.register()
    implementation = loading.resolve_attn_implementation(
        PaliGemma2(attention=AttentionImplementation.chunked)
        if family == "paligemma2"
        else PaliGemma(attention=AttentionImplementation.sdpa),
        config,
        "cuda",
        for_training=True,
    )
    network: Any = PaliGemmaPrefixLM._from_config(
        config, attn_implementation={"text_config": implementation, "vision_config": "sdpa"}
    ).to(torch.bfloat16)
    if quantized:
        _quantize(network)
    return Lora(rank=8).apply_to(network)


def _quantize(network: Any) -> None:
    for module in list(network.model.language_model.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is torch.nn.Linear:
                small = bnb.nn.Linear4bit(
                    layer.in_features, layer.out_features, bias=False, compute_dtype=torch.bfloat16
                )
                small.load_state_dict({"weight": layer.weight.data})
                setattr(module, name, small.to("cpu"))
    network.is_loaded_in_4bit = True  # PEFT selects its layer class by this


def _fake_quantized_layers(network: Any, device: PretendDevice) -> None:
    for layer in network.modules():
        if isinstance(layer, bnb.nn.Linear4bit):
            shape = layer.out_features, layer.in_features
            layer.__class__ = FakeLinear4bit
            layer.dense = device.tensor(torch.randn(shape, dtype=torch.bfloat16) / shape[1] ** 0.5)


def _example(image: Path) -> Example:
    # A digit is a token; BOS and newline belong to the prefix, EOS to the suffix.
    suffix = "1" * (SUFFIX_TOKENS - 1)
    return Example(
        id="0",
        images=(str(image),),
        size=(64, 64),
        prefix="2" * (PREFIX_TOKENS - 2),
        suffixes=(suffix,),
        reference=suffix,
        location="made:0",
    )


def count_micro_step(
    family: str,
    image: Path,
    folder: Path,
    layers: tuple[int, int],
    *,
    quantized: bool = False,
    checkpointing: bool = False,
) -> tuple[DeviceCounts, Totals]:
    """Count a micro-step of `PrefixTrainer` on rows of 304 tokens, from the collated batch on."""
    processor = _processor()
    network = build_network(family, processor, layers, quantized=quantized)
    settings = TrainingConfig(gradient_checkpointing=checkpointing)
    training_set = TrainingSet([_example(image)] * BATCH_SIZE, TargetSampling.first, 0)
    cpu = torch.device("cpu")
    trainer = PrefixTrainer(
        settings,
        TrainingData(training_set, Collator(processor)),
        folder=folder,
        model=network,
        args=build_training_arguments(settings, 0, folder, do_eval=False, device=cpu),
    )
    trainer.args.__dict__["_setup_devices"] = DEVICE
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    batch = trainer.data_collator([training_set[row] for row in range(BATCH_SIZE)])
    assert batch["input_ids"].shape == (BATCH_SIZE, 304)
    device = PretendDevice()
    with device.active() as counts:
        _fake_quantized_layers(network, device)
        device.move(network)
        for _ in range(2):  # the first step fills caches
            before = counts.totals()
            # As accelerate's data loader does, with pinned memory.
            moved = send_to_device(batch, DEVICE, non_blocking=True)
            items = trainer._get_num_items_in_batch([moved], DEVICE)
            trainer.training_step(network, moved, items)
            totals = _difference(counts.totals(), before)
            network.zero_grad()
    return device.counts, totals


def count_decoding_step(
    family: str,
    image: Path,
    layers: tuple[int, int],
    *,
    quantized: bool = False,
    num_beams: int = 1,
    grammar: ObjectGrammar | None = None,
) -> tuple[DeviceCounts, Totals]:
    """Count one token of `generate`, for each kind the median of several steps."""
    processor = _processor()
    network = build_network(family, processor, layers, quantized=quantized)
    prompts = Collator(processor).collate_prompts([_example(image)] * BATCH_SIZE)
    grammars = None if grammar is None else [grammar] * BATCH_SIZE
    device = PretendDevice()
    with device.active(), _totals_before_each_step(device) as before:
        _fake_quantized_layers(network, device)
        device.move(network)
        # EOS is never the most likely token, so that no row finishes.
        processor.tokenizer.eos_token = "<unk>" if grammar is None else "<eos>"
        most_tokens = 8 if grammar is None else 14
        generate(
            network,
            processor.tokenizer,
            prompts,
            most_tokens,
            num_beams=num_beams,
            grammars=grammars,
        )
    steps = [_difference(later, earlier) for earlier, later in pairwise(before)]
    assert len(steps) > 4, "generation ended early"
    return device.counts, {kind: median_low(step[kind] for step in steps[1:]) for kind in steps[0]}


@contextmanager
def _totals_before_each_step(device: PretendDevice) -> Iterator[list[Totals]]:
    totals: list[Totals] = []
    step = KVCacheDecoder.step

    def counted(self: KVCacheDecoder, *args: Any) -> Tensor:
        totals.append(device.counts.totals())
        return step(self, *args)

    with patch.object(KVCacheDecoder, "step", counted):
        yield totals


def _difference(later: Totals, earlier: Totals) -> Totals:
    return {kind: later[kind] - earlier[kind] for kind in later}
