"""Batches are dealt out to processes and put together again, as if one had done them all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palitune.data.dataset import load_split
from palitune.data.sources.jsonl import Jsonl
from palitune.distributed import collectives
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import generate_predictions
from palitune.evaluation.partial_predictions import PredictionCache
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.tasks.ocr import Ocr

SETTINGS = EvaluationConfig(batch_size=5, num_workers=0)


def test_processes_take_batches_in_turn_and_the_first_has_them_all(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    parts = load_split(jsonl, Ocr(max_new_tokens=3), "train")  # batches of 5, 5 and 2
    alone = generate_predictions(network, processor, parts, SETTINGS)
    monkeypatch.setattr(collectives, "world_size", lambda: 2)

    sent: list[Any] = []
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "broadcast_from_main", lambda value: value)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: sent.append(value) or [])
    assert generate_predictions(network, processor, parts, SETTINGS) == [[]]
    assert sent == [alone[0][5:10], []]

    second: Iterator[Any] = iter(sent)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: [value, next(second)])
    assert generate_predictions(network, processor, parts, SETTINGS) == alone


def test_only_what_the_journal_lacks_is_generated_in_the_same_batches(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from palitune.evaluation import inference

    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    parts = load_split(jsonl, Ocr(max_new_tokens=3), "train")
    alone = generate_predictions(network, processor, parts, SETTINGS)
    journal = PredictionCache(tmp_path / "predictions.jsonl", "abc")
    journal.add("ocr", parts[0].examples[:7], alone[0][:7])
    sizes: list[int] = []
    generate = inference.generate

    def counted(network: Any, tokenizer: Any, batch: Any, most: int, **how: Any) -> Any:
        sizes.append(len(batch["input_ids"]))
        return generate(network, tokenizer, batch, most, **how)

    monkeypatch.setattr(inference, "generate", counted)
    assert (
        generate_predictions(network, processor, parts, SETTINGS, prediction_cache=journal) == alone
    )
    assert sizes == [5, 2]
    assert len(PredictionCache(tmp_path / "predictions.jsonl", "abc").predictions["ocr"]) == 12
