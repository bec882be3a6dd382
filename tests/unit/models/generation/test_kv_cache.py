"""Tokens and their log-probabilities are those that `generate` of transformers gives."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    PaliGemmaForConditionalGeneration,
)

from palitune.codec.grammar import ObjectGrammar
from palitune.data.collator import Batch, Collator
from palitune.models.adapters.config import Lora, Qlora
from palitune.models.config import AttentionImplementation, Local
from palitune.models.generation import kv_cache
from palitune.models.generation.beam_search import BeamSearch, GreedySearch, Hypothesis
from palitune.models.generation.constraints import GrammarLogitsProcessor, build_logits_processor
from palitune.models.generation.kv_cache import generate_tokens
from palitune.models.loading import load
from palitune.models.paligemma import PaliGemmaPrefixLM, normalize_pixels
from palitune.records import Example

MOST = 12


class Allowed(LogitsProcessor):  # type: ignore[misc]
    """Palitune's constraint as transformers takes it."""

    def __init__(self, limit: GrammarLogitsProcessor, prompt: int, beams: int) -> None:
        self.limit, self.prompt, self.beams = limit, prompt, beams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        prompts = [row // self.beams for row in range(len(scores))]
        return self.limit(prompts, input_ids[:, self.prompt :].tolist(), scores)


def stock_answers(
    network: Any, batch: Batch, beams: int, eos: int, limit: GrammarLogitsProcessor | None
) -> list[Hypothesis]:
    """What `generate` of transformers writes, and the log-probabilities it tells."""
    inputs: dict[str, Any] = {**batch, "pixel_values": normalize_pixels(batch["pixel_values"])}
    prompt = inputs["input_ids"].shape[1]
    made = network.eval().generate(
        **inputs,
        max_new_tokens=MOST,
        num_beams=beams,
        do_sample=False,
        eos_token_id=eos,
        logits_processor=LogitsProcessorList([Allowed(limit, prompt, beams)] if limit else []),
        return_dict_in_generate=True,
        output_logits=True,
    )
    log_probs = network.compute_transition_scores(
        made.sequences, made.logits, made.get("beam_indices"), normalize_logits=True
    )
    rows = zip(made.sequences[:, prompt:].tolist(), log_probs.tolist(), strict=True)
    ends = [(ids.index(eos) + 1 if eos in ids else MOST, ids, own) for ids, own in rows]
    return [Hypothesis(tuple(ids[:end]), tuple(own[:end])) for end, ids, own in ends]


def own_answers(
    network: Any, batch: Batch, beams: int, eos: int, limit: GrammarLogitsProcessor | None = None
) -> list[Hypothesis]:
    told = len(batch["input_ids"]), eos, MOST
    search = GreedySearch(*told, limit) if beams == 1 else BeamSearch(*told, beams, limit)
    model = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixLM))
    with torch.inference_mode():
        return generate_tokens(model, batch, search)


def ending(network: Any, batch: Batch) -> int:
    """A token that, taken for EOS, ends answers at as many different places as any."""
    free = [answer.token_ids for answer in own_answers(network.eval(), batch, 1, eos=-1)]
    places = {
        token: {ids.index(token) if token in ids else MOST for ids in free}
        for token in sorted({token for ids in free for token in ids})
    }
    eos = max(places, key=lambda token: len(places[token]))
    assert len(places[eos]) > 1
    return eos


def eager(folder: Path, adapter: Lora) -> Any:
    """The stock class as a recipe without Palitune has it, with the adapter's own weights."""
    if isinstance(adapter, Qlora):
        model = Local(
            path=str(folder), attention=AttentionImplementation.eager, final_logit_softcapping=True
        )
        return load(model, adapter)
    return PaliGemmaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")


def randomized(network: Any) -> Any:
    random = torch.Generator().manual_seed(3)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            weight.data = 0.5 * torch.randn(weight.shape, generator=random)
    return network


def with_window(base: Path, folder: Path, window: int) -> Path:
    """The same model with another sliding window."""
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["sliding_window"] = window
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("family", "window", "adapter"),
    [
        ("paligemma", None, Lora(rank=4)),
        ("paligemma2", None, Qlora(rank=4)),
        ("paligemma2", 8, Lora(rank=4)),
    ],
    ids=["v1-lora", "v2-nf4", "v2-window-lora"],
)
def test_tokens_and_log_probabilities_are_those_of_transformers(
    family: str,
    window: int | None,
    adapter: Lora,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    folder = with_window(tiny(family), tmp_path, window) if window else tiny(family)
    processor = AutoProcessor.from_pretrained(folder)
    batch = Collator(processor).collate_prompts(examples)
    assert not batch["attention_mask"].all()
    capped = family == "paligemma2"
    model = Local(path=str(folder), final_logit_softcapping=capped)
    network, stock = load(model, adapter), eager(folder, adapter)
    network, stock = (randomized(adapter.apply_to(one)) for one in (network, stock))
    grammars = [ObjectGrammar(("boat", "buoy", "boat house"))] * len(examples)
    limit = build_logits_processor(processor.tokenizer, grammars, MOST)
    free, eos = ending(network, batch), processor.tokenizer.eos_token_id
    for beams, (stop, allowed) in product((1, 3), ((free, None), (eos, limit))):
        ours = own_answers(network, batch, beams, stop, allowed)
        theirs = stock_answers(stock, batch, beams, stop, allowed)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.token_ids == other.token_ids, (beams, stop)
            assert mine.log_probs == pytest.approx(other.log_probs, abs=5e-4)


def test_answers_that_have_ended_leave_the_batch_and_an_image_is_encoded_once(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    adapter = Lora(rank=4)
    network = randomized(adapter.apply_to(load(Local(path=str(tiny("paligemma"))))))
    twice = replace(examples[3], images=examples[4].images)
    batch = Collator(processor).collate_prompts([*examples[:3], twice, examples[4]])
    eos = ending(network, batch)
    images: list[int] = []
    rows: list[int] = []
    body = network.get_base_model().model
    tower, last = body.vision_tower, body.language_model.layers[-1]
    tower.register_forward_pre_hook(lambda _, told: images.append(len(told[0])))
    last.mlp.register_forward_pre_hook(lambda _, told: rows.append(len(told[0])))
    monkeypatch.setattr(kv_cache, "BLOCK_SIZE", 5)
    answers = own_answers(network, batch, 1, eos)
    ends = [len(answer.token_ids) for answer in answers]
    assert images == [4]
    assert rows == [sum(end > step for end in ends) for step in range(max(ends))]
    monkeypatch.undo()
    order = batch.pop("image_index")
    apart = batch | {"pixel_values": batch["pixel_values"][order]}
    again = own_answers(network, apart, 1, eos)
    assert images == [4, 5]
    assert [answer.token_ids for answer in again] == [answer.token_ids for answer in answers]
