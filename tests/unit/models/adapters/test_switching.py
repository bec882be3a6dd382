"""An adapter on a base that others were on is the adapter on a base of its own."""

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
def read(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The bits per weight of every base that is read."""
    found: list[int | None] = []

    def counted(model: ModelConfig, adapter: AdapterConfig, bits: int | None) -> Any:
        found.append(bits)
        return load_base(model, adapter, bits)

    load_base = switching.load_base
    monkeypatch.setattr(switching, "load_base", counted)
    return found


def answers(network: Any, model: Local, examples: list[Example]) -> list[Generation]:
    processor = load_processor(model)
    prompts = Collator(processor).collate_prompts(examples[:2])
    return generate(network, processor.tokenizer, prompts, 4)


@pytest.mark.parametrize("bits", [4, 8])
def test_answers_and_their_probabilities_are_those_of_the_adapter_alone(
    bits: int,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    read: list[int | None],
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    trained = [
        Qlora(bits=bits, rank=2, targets=["language", "vision", "head"]),
        # On a CPU, PEFT loses the scales of int8 weights that DoRA reads.
        Qlora(bits=bits, rank=4, targets=["language.mlp"], dora=bits == 4),
    ]
    saved = [
        replace(one, path=save_perturbed_adapter(model, one, tmp_path / str(seed), seed=seed))
        for seed, one in enumerate(trained)
    ]
    order = [*saved, Qlora(bits=bits), saved[0]]
    networks = AdapterSwitcher(model, order)
    swapped = [answers(networks.load(one), model, examples) for one in order]
    assert read == [bits]
    alone = [answers(load_for_inference(model, one), model, examples) for one in order[:3]]
    assert swapped == [*alone, alone[0]]
    assert len({str(one) for one in alone}) == 3


def test_a_base_is_read_anew_where_an_adapter_needs_another_one(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path, read: list[int | None]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    capped = replace(model, final_logit_softcapping=True)
    one = Lora(path=save_perturbed_adapter(model, Lora(rank=2), tmp_path / "one"))
    other = Lora(path=save_perturbed_adapter(capped, Lora(rank=2), tmp_path / "other"))
    four = Lora(path=save_perturbed_adapter(model, Qlora(rank=2), tmp_path / "four"))
    full = Lora(
        path=save_perturbed_adapter(model, Full(trainable_parts=["projector"]), tmp_path / "full")
    )
    order: list[AdapterConfig] = [one, full, other, four]
    networks = AdapterSwitcher(model, order)
    swapped = [answers(networks.load(adapter), model, examples) for adapter in order]
    assert read == [None, None, 4]
    assert swapped == [
        answers(load_for_inference(model, adapter), model, examples) for adapter in order
    ]


def test_an_adapter_that_is_missing_or_of_another_base_is_refused_before_any_answer(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma")))
    own = Lora(path=save_perturbed_adapter(model, Lora(rank=2), tmp_path / "own"))
    strange = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    other = Lora(path=save_perturbed_adapter(strange, Lora(rank=2), tmp_path / "other"))
    with pytest.raises(ModelError, match=r"palitune\.json is missing"):
        AdapterSwitcher(model, [own, Lora(path=str(tmp_path))])
    networks = AdapterSwitcher(model, [own, other])
    with pytest.raises(ModelError, match=r"other: the adapter was trained on .* whose weights dif"):
        networks.load(own)
    forced = replace(other, allow_base_mismatch=True)
    networks = AdapterSwitcher(model, [own, forced])
    networks.load(own)
    assert torch.is_tensor(next(networks.load(forced).parameters()))
