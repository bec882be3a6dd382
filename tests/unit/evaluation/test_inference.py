"""Batches are distributed over processes; unreadable images are reported."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
    assert sent == [[expected[0][5:10], []]]  # one gather for both rounds

    second: Iterator[Any] = iter(sent)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: [value, next(second)])
    assert generate_predictions(network, processor, datasets, SETTINGS) == expected


@pytest.mark.parametrize(("world_size", "gathers"), [(1, 40), (2, 2), (3, 1)])
def test_processes_wait_for_each_other_once_in_sixteen_batches(
    world_size: int, gathers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes as long as its longest answer, which differs between processes."""
    numbers = list(range(40))
    monkeypatch.setattr(collectives, "world_size", lambda: world_size)
    monkeypatch.setattr(collectives, "broadcast_from_main", lambda value: value)
    monkeypatch.setattr(inference, "_load_batch", lambda *told: loaded(told[-1]))
    monkeypatch.setattr(inference, "_predict_batch", lambda *told: told[-2].examples)
    gathered: list[list[Any]] = []

    def loaded(examples: list[int]) -> SimpleNamespace:
        return SimpleNamespace(examples=examples, errors=[])

    def gather(own: list[Any]) -> list[list[Any]]:
        """Return what the processes send: each has every `world_size`-th batch."""
        first = sum(len(part) for part in gathered) * world_size
        gathered.append(own)
        batches = [[n] for n in numbers[first : first + len(own) * world_size]]
        ranks = [batches[rank::world_size] for rank in range(world_size)]
        return [rank + [[]] * (len(own) - len(rank)) for rank in ranks]

    monkeypatch.setattr(collectives, "gather_to_main", gather)
    collator: Any = SimpleNamespace(tokenizer=None)
    examples: Any = numbers
    batches = [[number] for number in numbers]
    results = list(inference.predict_batches(None, collator, Text(), examples, batches, SETTINGS))
    assert results == [(batch, batch) for batch in batches]
    assert len(gathered) == gathers


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


@pytest.mark.parametrize("with_references", [False, True])
def test_a_batch_that_does_not_fit_is_halved_once_for_all_batches(
    with_references: bool,
    tiny: Callable[[str], Path],
    jsonl: Jsonl,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    datasets = load_split(jsonl, Ocr(max_new_tokens=3), "train")  # batches of 5, 5 and 2
    settings = replace(SETTINGS, perplexity=with_references)
    expected = generate_predictions(network, processor, datasets, settings)
    tried: list[int] = []
    generate = answering.generate

    def limited(network: Any, tokenizer: Any, batch: Any, *rest: Any, **options: Any) -> Any:
        tried.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(network, tokenizer, batch, *rest, **options)

    monkeypatch.setattr(answering, "generate", limited)
    halved = generate_predictions(network, processor, datasets, settings)
    assert [one.text for one in halved[0]] == [one.text for one in expected[0]]
    assert [one.id for one in halved[0]] == [one.id for one in expected[0]]
    assert tried == [5, 2, 2, 1, 2, 2, 1, 2]
    assert caplog.text.count("Set evaluation.batch_size=2.") == 1

    monkeypatch.setattr(answering, "generate", raise_out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        generate_predictions(network, processor, datasets, settings)


def raise_out_of_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")
