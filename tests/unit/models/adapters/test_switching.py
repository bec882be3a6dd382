"""Switching adapters on one base gives the results of loading each with its own base."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.data.collator import Collator
from palitune.errors import ModelError
from palitune.models.adapters import switching
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.adapters.switching import AdapterSwitcher
from palitune.models.config import Local, ModelConfig
from palitune.models.generation.generate import Generation, generate
from palitune.models.loading import load_for_inference, load_processor
from palitune.records import Example

from support.tiny_models import build_tiny, save_perturbed_adapter


@pytest.fixture
def loaded_bits(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Return a list that receives the bits per weight of every base that is loaded."""
    loaded: list[int | None] = []

    def record_bits(model: ModelConfig, adapter: AdapterConfig, bits: int | None) -> Any:
        loaded.append(bits)
        return load_base(model, adapter, bits)

    load_base = switching.load_base
    monkeypatch.setattr(switching, "load_base", record_bits)
    return loaded


def answers(network: Any, model: Local, examples: list[Example]) -> list[Generation]:
    processor = load_processor(model)
    prompts = Collator(processor).collate_prompts(examples[:2])
    return generate(network, processor.tokenizer, prompts, 4)


@pytest.mark.parametrize("bits", [4, 8])
def test_answers_and_log_probabilities_are_those_of_the_adapter_alone(
    bits: int,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    loaded_bits: list[int | None],
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    trained = [
        Qlora(bits=bits, rank=2, targets=["language", "vision", "head"]),
        # On a CPU, PEFT loses the scales of int8 weights that DoRA reads.
        Qlora(bits=bits, rank=4, targets=["language.mlp"], dora=bits == 4),
    ]
    saved = [
        replace(
            adapter, path=save_perturbed_adapter(model, adapter, tmp_path / str(seed), seed=seed)
        )
        for seed, adapter in enumerate(trained)
    ]
    order = [*saved, Qlora(bits=bits), saved[0]]
    networks = AdapterSwitcher(model, order)
    switched = [answers(networks.load(adapter), model, examples) for adapter in order]
    assert loaded_bits == [bits]
    alone = [answers(load_for_inference(model, adapter), model, examples) for adapter in order[:3]]
    assert switched == [*alone, alone[0]]
    assert len({str(generations) for generations in alone}) == 3


def test_the_base_is_loaded_again_only_if_an_adapter_needs_another_one(
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    loaded_bits: list[int | None],
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    capped = replace(model, final_logit_softcapping=True)
    plain = Lora(path=save_perturbed_adapter(model, Lora(rank=2), tmp_path / "plain"))
    with_cap = Lora(path=save_perturbed_adapter(capped, Lora(rank=2), tmp_path / "capped"))
    four = Lora(path=save_perturbed_adapter(model, Qlora(rank=2), tmp_path / "four"))
    full = Lora(
        path=save_perturbed_adapter(model, Full(trainable_parts=["projector"]), tmp_path / "full")
    )
    order: list[AdapterConfig] = [plain, full, with_cap, four]
    networks = AdapterSwitcher(model, order)
    switched = [answers(networks.load(adapter), model, examples) for adapter in order]
    assert loaded_bits == [None, None, 4]
    assert switched == [
        answers(load_for_inference(model, adapter), model, examples) for adapter in order
    ]


def test_a_missing_adapter_or_one_of_another_base_is_refused_at_once(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma")))
    matching = Lora(path=save_perturbed_adapter(model, Lora(rank=2), tmp_path / "matching"))
    other_base = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    other = Lora(path=save_perturbed_adapter(other_base, Lora(rank=2), tmp_path / "other"))
    with pytest.raises(ModelError, match=r"palitune\.json is missing"):
        AdapterSwitcher(model, [matching, Lora(path=str(tmp_path))])
    networks = AdapterSwitcher(model, [matching, other])
    with pytest.raises(ModelError, match=r"other: the adapter was trained on .* whose weights dif"):
        networks.load(matching)
    allowed = replace(other, allow_base_mismatch=True)
    networks = AdapterSwitcher(model, [matching, allowed])
    networks.load(matching)
    assert torch.is_tensor(next(networks.load(allowed).parameters()))
