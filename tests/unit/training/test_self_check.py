"""The self-check passes on correct setups and detects every planted fault."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AutoProcessor, PreTrainedTokenizerFast

from palitune.data.collator import IGNORE_INDEX, Batch, Collator
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.errors import SelfCheckError
from palitune.models import decoder_layers
from palitune.models.adapters.config import Lora, Qlora
from palitune.models.config import AttentionImplementation, Dtype, Local
from palitune.models.loading import load, load_processor
from palitune.planning.calibration import prepare_for_training, training_step
from palitune.records import Example
from palitune.training.config import TrainingConfig
from palitune.training.self_check import (
    _gradient,
    check_mask,
    check_special_tokens,
    run_checks,
)

from support.live_tensors import LiveTensors
from support.operations import CountOperations
from support.tiny_models import build_tiny

FAMILIES = ["paligemma", "paligemma2"]
Plant = Callable[[Batch], None]


class FaultyCollator(Collator):
    """Modifies each training batch."""

    def __init__(self, processor: Any, plant: Plant) -> None:
        super().__init__(processor)
        self.plant = plant

    def collate_train(self, samples: Sequence[TrainingSample]) -> Batch:
        batch = super().collate_train(samples)
        self.plant(batch)
        return batch


class HostCollator(Collator):
    """Collates outside of dispatch modes: its tensors are in the memory of the host."""

    def collate_train(self, samples: Sequence[TrainingSample]) -> Batch:
        with _disable_current_modes():
            return super().collate_train(samples)


@pytest.fixture
def samples(examples: list[Example]) -> list[TrainingSample]:
    return [TrainingSample(example, example.suffixes[0]) for example in examples]


def prepared(folder: Path, **settings: Any) -> tuple[Any, Any]:
    model = Local(path=str(folder), **settings)
    return Lora().apply_to(load(model)), load_processor(model)


UNCAPPED = {"attention": AttentionImplementation.sdpa, "attention_logit_softcapping": False}
BACKENDS = {
    "paligemma sdpa": ("paligemma", {"attention": AttentionImplementation.sdpa}),
    "paligemma eager": ("paligemma", {"attention": AttentionImplementation.eager}),
    "paligemma2 chunked": ("paligemma2", {"attention": AttentionImplementation.auto}),
    "paligemma2 eager": ("paligemma2", {"attention": AttentionImplementation.eager}),
    "paligemma2 sdpa without soft-cap": ("paligemma2", UNCAPPED),
}


@pytest.mark.parametrize(("family", "settings"), BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_correct_setup_passes(
    family: str,
    settings: dict[str, Any],
    checkpointing: bool,
    rows: int,
    tiny: Callable[[str], Path],
    samples: list[TrainingSample],
) -> None:
    network, processor = prepared(tiny(family), **settings)
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    messages = run_checks(network, Collator(processor), samples[:rows], Lora())
    assert [line.split(":")[0] for line in messages] == [
        "tokens", "labels", "token types", "adapter", "mask", "mask", "padding",
    ]  # fmt: skip


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_check_needs_less_memory_and_time_than_steps_of_one_row(
    checkpointing: bool, tmp_path: Path, examples: list[Example]
) -> None:
    settings = TrainingConfig(
        global_batch_size=1, micro_batch_size=1, gradient_checkpointing=checkpointing
    )
    build_tiny(tmp_path, "paligemma2", image_size=224, num_layers=6)
    network, processor = prepared(tmp_path)
    collator = HostCollator(processor)
    rows = [TrainingSample(example, example.suffixes[0]) for example in examples]
    with LiveTensors() as check, CountOperations() as check_operations:
        run_checks(network, collator, rows, Lora(), settings)
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in network.modules())

    optimizer = prepare_for_training(network, settings)
    longest = max(rows, key=lambda row: len(row.suffix))
    batch = collator.collate_train([longest])
    training_step(batch, network, settings, optimizer)  # initializes the optimizer state
    with LiveTensors() as step, CountOperations() as step_operations:
        training_step(batch, network, settings, optimizer)
    assert check.peak_bytes <= step.peak_bytes
    assert check_operations.total <= 3 * step_operations.total


def test_the_probe_of_the_mask_does_not_overflow_in_float16() -> None:
    torch.manual_seed(0)
    head = torch.randn(50_000, 16, dtype=torch.float16) * 4
    embeddings = (torch.randn(1, 1, 16, dtype=torch.float16) * 8).requires_grad_()
    logits = (embeddings[0, 0] @ head.T).float()
    squares = torch.autograd.grad(logits.square().sum(), embeddings, retain_graph=True)[0]
    assert not bool(squares.isfinite().all())
    gradient = _gradient(logits, embeddings, retain_graph=False)
    assert bool((gradient != 0).all())
    assert bool(gradient.isfinite().all())


def test_exactly_the_excluded_spans_have_no_loss(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    network, processor = prepared(tiny("paligemma"))
    text = "<loc0001><loc0002><loc0003><loc0004> <noise> ; " + examples[1].suffixes[0]
    noisy = replace(examples[1], suffixes=(text,), no_loss_spans=((0, 36),))
    samples = [TrainingSample(noisy, text), TrainingSample(examples[0], "73")]
    assert len(run_checks(network, Collator(processor), samples, Lora())) == 7

    def drop_first_label(batch: Batch) -> None:
        batch["labels"][0, (batch["labels"][0] != IGNORE_INDEX).nonzero()[0]] = IGNORE_INDEX

    collator = FaultyCollator(processor, drop_first_label)
    with pytest.raises(SelfCheckError, match=r"has no loss, expected '<loc0001>.* to have none"):
        run_checks(network, collator, samples, Lora())


def test_rows_with_several_suffixes_pass_unless_these_attend_to_each_other(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, processor = prepared(tiny("paligemma2"))
    several = [replace(examples[0], suffixes=("73", "a boat", "7")), examples[1], examples[2]]
    rows = TrainingSet(several, TargetSampling.all, 0)
    samples, collator = list(rows), Collator(processor)
    assert len(run_checks(network, collator, samples, Lora())) == 7
    correct = decoder_layers.prefix_lm_mask
    monkeypatch.setattr(
        decoder_layers, "prefix_lm_mask", lambda types, *rest: correct(types.clamp(max=1), *rest)
    )
    with pytest.raises(SelfCheckError, match="attends to another suffix of its row"):
        run_checks(network, collator, samples, Lora())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_correct_quantized_setup_passes(
    bits: int, tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    adapter, model = Qlora(bits=bits), Local(path=str(tiny("paligemma2")))
    network, processor = adapter.apply_to(load(model, adapter)), load_processor(model)
    assert run_checks(network, Collator(processor), samples, adapter)


def drop_types(batch: Batch) -> None:
    del batch["token_type_ids"]


def zero_types(batch: Batch) -> None:
    batch["token_type_ids"].zero_()


def causal_prompt(batch: Batch) -> None:
    text = (batch["input_ids"] != batch["input_ids"][0, 0]) & batch["attention_mask"].bool()
    batch["token_type_ids"][text] = 1


def no_eos(batch: Batch) -> None:
    for row in batch["labels"]:
        row[(row != IGNORE_INDEX).nonzero()[-1]] = IGNORE_INDEX


def image_labels(batch: Batch) -> None:
    image = batch["input_ids"] == batch["input_ids"][0, 0]
    batch["labels"][image] = batch["input_ids"][image]


def truncate_suffix(batch: Batch) -> None:
    for row in batch["labels"]:
        row[(row != IGNORE_INDEX).nonzero()[0]] = IGNORE_INDEX


def no_labels(batch: Batch) -> None:
    batch["labels"].fill_(IGNORE_INDEX)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (drop_types, "no token_type_ids"),
        (zero_types, "would attend to later ones"),
        (causal_prompt, "attention would be causal"),
        (no_eos, "last label is not EOS"),
        (image_labels, "image tokens are labels"),
        (truncate_suffix, "it was truncated or changed"),
        (no_labels, "no token has a label"),
    ],
)
def test_a_faulty_batch_is_detected(
    plant: Plant,
    message: str,
    family: str,
    tiny: Callable[[str], Path],
    samples: list[TrainingSample],
) -> None:
    network, processor = prepared(tiny(family))
    with pytest.raises(SelfCheckError, match=message):
        run_checks(network, FaultyCollator(processor, plant), samples, Lora())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("plant", "message"),
    [(zero_types, "leak"), (causal_prompt, "the image does not attend to the prefix")],
)
def test_check_mask_alone_detects_a_wrong_mask(
    plant: Plant,
    message: str,
    family: str,
    tiny: Callable[[str], Path],
    samples: list[TrainingSample],
) -> None:
    network, processor = prepared(tiny(family))
    batch = Collator(processor).collate_train(samples)
    plant(batch)
    with pytest.raises(SelfCheckError, match=message):
        check_mask(network, batch)


def test_a_tokenizer_that_splits_loc_tokens_is_detected(tiny: Callable[[str], Path]) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    state = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [
        token for token in state["added_tokens"] if not token["content"].startswith("<loc")
    ]
    bare = Tokenizer.from_str(json.dumps(state))
    processor.tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare)
    with pytest.raises(SelfCheckError, match="splits <loc0000> into"):
        check_special_tokens(Collator(processor))


def test_an_adapter_on_half_of_the_vision_tower_is_detected(
    tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    suffixes = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    network = get_peft_model(load(model), LoraConfig(target_modules=suffixes))
    processor = load_processor(model)
    with pytest.raises(SelfCheckError, match=r"covers 6 of 8 layers of vision\.attention"):
        run_checks(network, Collator(processor), samples, Lora())


def test_no_trainable_parameter_is_detected(
    tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    network, processor = prepared(tiny("paligemma"))
    network.requires_grad_(False)
    with pytest.raises(SelfCheckError, match="no parameter is trainable"):
        run_checks(network, Collator(processor), samples, Lora())


def test_four_bit_layers_of_another_compute_dtype_are_detected(
    tiny: Callable[[str], Path], samples: list[TrainingSample]
) -> None:
    adapter = Qlora(compute_dtype=Dtype.bf16)
    model = Local(path=str(tiny("paligemma2")))
    network = adapter.apply_to(load(model, adapter))
    processor = load_processor(model)
    assert run_checks(network, Collator(processor), samples, adapter)
    for module in network.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
    with pytest.raises(SelfCheckError, match=r"compute in torch\.float32, .* torch\.bfloat16"):
        run_checks(network, Collator(processor), samples, adapter)
