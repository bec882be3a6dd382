"""Batches are dealt out to processes and put together again, as if one had done them all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from palitune import data, processes
from palitune.data.sources.jsonl import Jsonl
from palitune.evaluation.answering import answer
from palitune.evaluation.journal import Journal
from palitune.evaluation.settings import Evaluation
from palitune.models.checkpoints import Local
from palitune.models.loading import load, load_processor
from palitune.tasks.ocr import Ocr

SETTINGS = Evaluation(batch_size=5, workers=0)


def test_processes_take_batches_in_turn_and_the_first_has_them_all(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    parts = data.load(jsonl, Ocr(max_new_tokens=3), "train")  # batches of 5, 5 and 2
    alone = answer(network, processor, parts, SETTINGS)
    monkeypatch.setattr(processes, "count", lambda: 2)

    sent: list[Any] = []
    monkeypatch.setattr(processes, "rank", lambda: 1)
    monkeypatch.setattr(processes, "from_first", lambda value: value)
    monkeypatch.setattr(processes, "gathered", lambda value: sent.append(value) or [])
    assert answer(network, processor, parts, SETTINGS) == [[]]
    assert sent == [alone[0][5:10], []]

    second: Iterator[Any] = iter(sent)
    monkeypatch.setattr(processes, "rank", lambda: 0)
    monkeypatch.setattr(processes, "gathered", lambda value: [value, next(second)])
    assert answer(network, processor, parts, SETTINGS) == alone


def test_only_what_the_journal_lacks_is_generated_in_the_same_batches(
    tiny: Callable[[str], Path], jsonl: Jsonl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from palitune.evaluation import answering

    model = Local(path=str(tiny("paligemma2")))
    network, processor = load(model), load_processor(model)
    parts = data.load(jsonl, Ocr(max_new_tokens=3), "train")
    alone = answer(network, processor, parts, SETTINGS)
    journal = Journal(tmp_path / "predictions.jsonl", "abc")
    journal.add("ocr", parts[0].examples[:7], alone[0][:7])
    sizes: list[int] = []
    generate = answering.generate

    def counted(network: Any, tokenizer: Any, batch: Any, most: int, **how: Any) -> Any:
        sizes.append(len(batch["input_ids"]))
        return generate(network, tokenizer, batch, most, **how)

    monkeypatch.setattr(answering, "generate", counted)
    assert answer(network, processor, parts, SETTINGS, journal=journal) == alone
    assert sizes == [5, 2]
    assert len(Journal(tmp_path / "predictions.jsonl", "abc").known["ocr"]) == 12
