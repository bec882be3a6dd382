"""Batches are distributed over processes; unreadable images are reported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.data.collator import Collator
from palitune.data.dataset import load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.distributed import collectives
from palitune.evaluation import answering, inference
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.evaluate import generate_predictions
from palitune.evaluation.partial_predictions import PredictionCache
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.tasks.ocr import Ocr
from palitune.tasks.text import Text

SETTINGS = EvaluationConfig(batch_size=5, num_workers=0)


def test_a_batch_omits_unreadable_images_and_returns_their_errors(
    tiny: Callable[[str], Path], examples: Sequence[Example], tmp_path: Path
) -> None:
    collator = Collator(load_processor(Local(path=str(tiny("paligemma2")))))
    (tmp_path / "broken.png").write_text("no image")
    bad = replace(examples[1], images=(str(tmp_path / "broken.png"),), id="broken")

    def loaded(*batch: Example) -> Any:
        return inference._load_batch(collator, Text(), SETTINGS, False, batch)

    batch = loaded(examples[0], bad, examples[2])
    assert batch.examples == [examples[0], examples[2]]
    assert [bad.location in str(error) for error in batch.errors] == [True]
    expected = collator.collate_prompts([examples[0], examples[2]])
    assert all(torch.equal(batch.prompt_batch[key], expected[key]) for key in expected)
    assert loaded(bad).prompt_batch is None


def test_ranks_take_batches_in_turn_and_the_main_process_gets_all_predictions(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    datasets = load_split(jsonl, Ocr(max_new_tokens=3), "train")  # batches of 5, 5 and 2
    expected = generate_predictions(network, processor, datasets, SETTINGS)
    monkeypatch.setattr(collectives, "world_size", lambda: 2)

    sent: list[Any] = []
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "broadcast_from_main", lambda value: value)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: sent.append(value) or [])
    assert generate_predictions(network, processor, datasets, SETTINGS) == [[]]
    assert sent == [expected[0][5:10], []]

    second: Iterator[Any] = iter(sent)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: [value, next(second)])
    assert generate_predictions(network, processor, datasets, SETTINGS) == expected


def test_only_predictions_that_are_not_cached_are_generated_in_the_same_batches(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    datasets = load_split(jsonl, Ocr(max_new_tokens=3), "train")
    expected = generate_predictions(network, processor, datasets, SETTINGS)
    cache = PredictionCache(tmp_path / "predictions.jsonl", "abc")
    cache.add("ocr", datasets[0].examples[:7], expected[0][:7])
    sizes: list[int] = []
    generate = answering.generate

    def counted(
        network: Any, tokenizer: Any, batch: Any, max_new_tokens: int, **options: Any
    ) -> Any:
        sizes.append(len(batch["input_ids"]))
        return generate(network, tokenizer, batch, max_new_tokens, **options)

    monkeypatch.setattr(answering, "generate", counted)
    predictions = generate_predictions(network, processor, datasets, SETTINGS, cache=cache)
    assert predictions == expected
    assert sizes == [5, 2]
    assert len(PredictionCache(tmp_path / "predictions.jsonl", "abc").predictions["ocr"]) == 12
