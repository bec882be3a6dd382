"""Tokens and log-probabilities equal those of `generate` of transformers."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
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
from palitune.models.generation import kv_cache, static_kv_cache
from palitune.models.generation.beam_search import BeamSearch, GreedySearch, Hypothesis
from palitune.models.generation.constraints import GrammarLogitsProcessor, build_logits_processor
from palitune.models.generation.kv_cache import KVCacheDecoder, generate_tokens
from palitune.models.generation.static_kv_cache import StaticKVCacheDecoder
from palitune.models.loading import load
from palitune.models.paligemma import PaliGemmaPrefixLM, normalize_pixels
from palitune.records import Example

MAX_NEW_TOKENS = 12


class StockLogitsProcessor(LogitsProcessor):  # type: ignore[misc]
    """Palitune's constraint in the interface of transformers."""

    def __init__(self, limit: GrammarLogitsProcessor, prompt: int, beams: int) -> None:
        self.limit, self.prompt, self.beams = limit, prompt, beams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        prompts = [row // self.beams for row in range(len(scores))]
        return self.limit(prompts, input_ids[:, self.prompt :].tolist(), scores)


def stock_answers(
    network: Any, batch: Batch, beams: int, eos: int, limit: GrammarLogitsProcessor | None
) -> list[Hypothesis]:
    """Return the tokens and log-probabilities of `generate` of transformers."""
    inputs: dict[str, Any] = {**batch, "pixel_values": normalize_pixels(batch["pixel_values"])}
    prompt = inputs["input_ids"].shape[1]
    made = network.eval().generate(
        **inputs,
        max_new_tokens=MAX_NEW_TOKENS,
        num_beams=beams,
        do_sample=False,
        eos_token_id=eos,
        logits_processor=LogitsProcessorList(
            [StockLogitsProcessor(limit, prompt, beams)] if limit else []
        ),
        return_dict_in_generate=True,
        output_logits=True,
    )
    log_probs = network.compute_transition_scores(
        made.sequences, made.logits, made.get("beam_indices"), normalize_logits=True
    )
    rows = zip(made.sequences[:, prompt:].tolist(), log_probs.tolist(), strict=True)
    ends = [
        (ids.index(eos) + 1 if eos in ids else MAX_NEW_TOKENS, ids, values) for ids, values in rows
    ]
    return [Hypothesis(tuple(ids[:end]), tuple(values[:end])) for end, ids, values in ends]


def our_answers(
    network: Any,
    batch: Batch,
    beams: int,
    eos: int,
    limit: GrammarLogitsProcessor | None = None,
    decoder_class: type[KVCacheDecoder] = KVCacheDecoder,
) -> list[Hypothesis]:
    limits = len(batch["input_ids"]), eos, MAX_NEW_TOKENS
    search = GreedySearch(*limits, limit) if beams == 1 else BeamSearch(*limits, beams, limit)
    model = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixLM))
    with torch.inference_mode():
        return generate_tokens(model, batch, search, decoder_class)


def varied_eos(network: Any, batch: Batch) -> int:
    """Return the token that, used as EOS, ends answers after the most different lengths."""
    free = [answer.token_ids for answer in our_answers(network.eval(), batch, 1, eos=-1)]
    lengths = {
        token: {ids.index(token) if token in ids else MAX_NEW_TOKENS for ids in free}
        for token in sorted({token for ids in free for token in ids})
    }
    eos = max(lengths, key=lambda token: len(lengths[token]))
    assert len(lengths[eos]) > 1
    return eos


def eager(folder: Path, adapter: Lora) -> Any:
    """Return the stock class with eager attention, or our class if the base is quantized."""
    if isinstance(adapter, Qlora):
        model = Local(
            path=str(folder), attention=AttentionImplementation.eager, final_logit_softcapping=True
        )
        return load(model, adapter)
    return PaliGemmaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")


def randomized(network: Any) -> Any:
    rng = torch.Generator().manual_seed(3)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            weight.data = 0.5 * torch.randn(weight.shape, generator=rng)
    return network


def with_window(base: Path, folder: Path, window: int) -> Path:
    """Return a copy of a model with another sliding window."""
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
    network, stock = (randomized(adapter.apply_to(base)) for base in (network, stock))
    grammars = [ObjectGrammar(("boat", "buoy", "boat house"))] * len(examples)
    limit = build_logits_processor(processor.tokenizer, grammars, MAX_NEW_TOKENS)
    free, eos = varied_eos(network, batch), processor.tokenizer.eos_token_id
    for beams, (stop, allowed) in product((1, 3), ((free, None), (eos, limit))):
        ours = our_answers(network, batch, beams, stop, allowed)
        theirs = stock_answers(stock, batch, beams, stop, allowed)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.token_ids == other.token_ids, (beams, stop)
            assert mine.log_probs == pytest.approx(other.log_probs, abs=5e-4)


def test_finished_answers_leave_the_batch_and_an_image_is_encoded_once(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    adapter = Lora(rank=4)
    network = randomized(adapter.apply_to(load(Local(path=str(tiny("paligemma"))))))
    same_image = replace(examples[3], images=examples[4].images)
    batch = Collator(processor).collate_prompts([*examples[:3], same_image, examples[4]])
    eos = varied_eos(network, batch)
    images: list[int] = []
    rows: list[int] = []
    body = network.get_base_model().model
    tower, last = body.vision_tower, body.language_model.layers[-1]
    tower.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0])))
    last.mlp.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    monkeypatch.setattr(kv_cache, "BLOCK_SIZE", 5)
    answers = our_answers(network, batch, 1, eos)
    ends = [len(answer.token_ids) for answer in answers]
    assert images == [4]
    assert rows == [sum(end > step for end in ends) for step in range(max(ends))]
    monkeypatch.undo()
    order = batch.pop("image_index")
    repeated = batch | {"pixel_values": batch["pixel_values"][order]}
    again = our_answers(network, repeated, 1, eos)
    assert images == [4, 5]
    assert [answer.token_ids for answer in again] == [answer.token_ids for answer in answers]


@pytest.mark.parametrize(("family", "window"), [("paligemma", None), ("paligemma2", 8)])
def test_buffers_of_fixed_shapes_give_the_same_answers(
    family: str,
    window: int | None,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = with_window(tiny(family), tmp_path, window) if window else tiny(family)
    processor = AutoProcessor.from_pretrained(folder)
    batch = Collator(processor).collate_prompts(examples)
    network = randomized(Lora(rank=4).apply_to(load(Local(path=str(folder)))))
    eos = varied_eos(network, batch)
    shapes: list[tuple[int, ...]] = []
    run = StaticKVCacheDecoder._step

    def recorded(self: StaticKVCacheDecoder) -> torch.Tensor:
        shapes.append((len(self.tokens), self._num_slots()))
        return run(self)

    monkeypatch.setattr(StaticKVCacheDecoder, "_step", recorded)
    for module in (kv_cache, static_kv_cache):
        monkeypatch.setattr(module, "BLOCK_SIZE", 5)
    for beams in (1, 3):
        expected = our_answers(network, batch, beams, eos)
        shapes.clear()
        answers = our_answers(network, batch, beams, eos, None, StaticKVCacheDecoder)
        for answer, other in zip(answers, expected, strict=True):
            assert answer.token_ids == other.token_ids, beams
            assert answer.log_probs == pytest.approx(other.log_probs, abs=1e-4)
        rows, slots = map(set, zip(*shapes, strict=True))
        assert slots == {5, 10, 15}
        assert all(2 * fewer <= more for more, fewer in pairwise(sorted(rows, reverse=True)))


def test_a_step_with_fixed_shapes_may_be_repeated(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma2"))
    batch = Collator(processor).collate_prompts(examples)
    network = load(Local(path=str(tiny("paligemma2"))))
    with torch.inference_mode():
        decoder = StaticKVCacheDecoder(network, batch)
        decoder.prefill(batch)
        rows = list(range(len(examples)))
        decoder.step(rows, [10 + row for row in rows], 1)
        logits = decoder.step(rows, [20 + row for row in rows], 1)
        assert torch.equal(decoder._step(), logits)
