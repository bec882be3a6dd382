"""The self-check passes on what is right and trips on each planted fault."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoProcessor, PreTrainedTokenizerFast

from palitune.data.collator import IGNORE_INDEX, Batch, Collator
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.errors import SelfCheckError
from palitune.models import decoder_layers
from palitune.models.adapters.config import Lora, Qlora
from palitune.models.config import AttentionImplementation, Dtype, Local
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.training.self_check import check_special_tokens, run_checks

FAMILIES = ["paligemma", "paligemma2"]
Plant = Callable[[Batch], None]


@pytest.fixture
def visits(examples: list[Example]) -> list[TrainingSample]:
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
def test_a_sound_setup_passes(
    family: str,
    settings: dict[str, Any],
    checkpointing: bool,
    rows: int,
    tiny: Callable[[str], Path],
    visits: list[TrainingSample],
) -> None:
    network, processor = prepared(tiny(family), **settings)
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    collate = Collator(processor).collate_train
    said = run_checks(network, processor, collate, visits[:rows], Lora())
    assert [line.split(":")[0] for line in said] == [
        "tokens", "labels", "token types", "adapter", "mask", "mask", "padding",
    ]  # fmt: skip


def test_what_carries_no_loss_is_what_was_to_carry_none(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    network, processor = prepared(tiny("paligemma"))
    text = "<loc0001><loc0002><loc0003><loc0004> <noise> ; " + examples[1].suffixes[0]
    noisy = replace(examples[1], suffixes=(text,), no_loss_spans=((0, 36),))
    visits = [TrainingSample(noisy, text), TrainingSample(examples[0], "73")]
    collate = Collator(processor).collate_train
    assert len(run_checks(network, processor, collate, visits, Lora())) == 7

    def silenced(rows: Sequence[TrainingSample]) -> Batch:
        batch = collate(rows)
        batch["labels"][0, (batch["labels"][0] != IGNORE_INDEX).nonzero()[0]] = IGNORE_INDEX
        return batch

    with pytest.raises(SelfCheckError, match=r"carries no loss, and what should not is '<loc0001>"):
        run_checks(network, processor, silenced, visits, Lora())


def test_rows_with_several_suffixes_pass_unless_these_see_each_other(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, processor = prepared(tiny("paligemma2"))
    several = [replace(examples[0], suffixes=("73", "a boat", "7")), examples[1], examples[2]]
    rows = TrainingSet(several, TargetSampling.all, 0)
    visits, collate = [rows[index] for index in range(3)], Collator(processor).collate_train
    assert len(run_checks(network, processor, collate, visits, Lora())) == 7
    sound = decoder_layers.prefix_lm_mask
    monkeypatch.setattr(
        decoder_layers, "prefix_lm_mask", lambda types, *rest: sound(types.clamp(max=1), *rest)
    )
    with pytest.raises(SelfCheckError, match="sees another suffix of its row"):
        run_checks(network, processor, collate, visits, Lora())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_sound_quantized_setup_passes(
    bits: int, tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    adapter, model = Qlora(bits=bits), Local(path=str(tiny("paligemma2")))
    network, processor = adapter.apply_to(load(model, adapter)), load_processor(model)
    assert run_checks(network, processor, Collator(processor).collate_train, visits, adapter)


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


def cut_suffix(batch: Batch) -> None:
    for row in batch["labels"]:
        row[(row != IGNORE_INDEX).nonzero()[0]] = IGNORE_INDEX


def no_labels(batch: Batch) -> None:
    batch["labels"].fill_(IGNORE_INDEX)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (drop_types, "no token_type_ids"),
        (zero_types, "would see its own future"),
        (causal_prompt, "read causally"),
        (no_eos, "last label is not EOS"),
        (image_labels, "image tokens are labels"),
        (cut_suffix, "it was cut or changed"),
        (no_labels, "no token has a label"),
    ],
)
def test_a_faulty_batch_trips(
    plant: Plant, said: str, family: str, tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    network, processor = prepared(tiny(family))
    sound = Collator(processor)

    def faulty(rows: Sequence[TrainingSample]) -> Batch:
        batch = sound.collate_train(rows)
        plant(batch)
        return batch

    with pytest.raises(SelfCheckError, match=said):
        run_checks(network, processor, faulty, visits, Lora())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("plant", "said"), [(zero_types, "leak"), (causal_prompt, "the image does not see the prompt")]
)
def test_the_mask_probe_alone_finds_a_wrong_mask(
    plant: Plant, said: str, family: str, tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    from palitune.training.self_check import check_mask

    network, processor = prepared(tiny(family))
    batch = Collator(processor).collate_train(visits)
    plant(batch)
    with pytest.raises(SelfCheckError, match=said):
        check_mask(network, batch)


def test_a_tokenizer_that_cuts_loc_into_pieces_trips(tiny: Callable[[str], Path]) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    written = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    written["added_tokens"] = [
        token for token in written["added_tokens"] if not token["content"].startswith("<loc")
    ]
    bare = Tokenizer.from_str(json.dumps(written))
    processor.tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare)
    with pytest.raises(SelfCheckError, match="cuts <loc0000> into"):
        check_special_tokens(processor)


def test_an_adapter_on_half_of_the_vision_tower_trips(
    tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    suffixes = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    network = get_peft_model(load(model), LoraConfig(target_modules=suffixes))
    processor = load_processor(model)
    with pytest.raises(SelfCheckError, match=r"hits 6 of 8 layers of vision\.attention"):
        run_checks(network, processor, Collator(processor).collate_train, visits, Lora())


def test_no_trainable_parameter_trips(
    tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    network, processor = prepared(tiny("paligemma"))
    network.requires_grad_(False)
    with pytest.raises(SelfCheckError, match="no parameter is trainable"):
        run_checks(network, processor, Collator(processor).collate_train, visits, Lora())


def test_four_bit_layers_computing_in_another_dtype_than_asked_trip(
    tiny: Callable[[str], Path], visits: list[TrainingSample]
) -> None:
    adapter = Qlora(compute_dtype=Dtype.bf16)
    model = Local(path=str(tiny("paligemma2")))
    network = adapter.apply_to(load(model, adapter))
    processor = load_processor(model)
    assert run_checks(network, processor, Collator(processor).collate_train, visits, adapter)
    for module in network.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float32
    with pytest.raises(SelfCheckError, match=r"compute in torch\.float32 .* torch\.bfloat16"):
        run_checks(network, processor, Collator(processor).collate_train, visits, adapter)
