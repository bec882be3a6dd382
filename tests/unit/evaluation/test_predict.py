"""Batches leave out images that cannot be decoded, and say which."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.data.collator import Collator
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.predict import load_batch, stream_predictions
from palitune.models.config import Local
from palitune.models.loading import load as load_model
from palitune.models.loading import load_processor
from palitune.records import Example
from palitune.tasks.text import Text


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma2")))


def broken(example: Example, folder: Path) -> Example:
    file = folder / "broken.png"
    file.write_text("no image")
    return replace(example, images=(str(file),), id="broken")


def test_a_batch_without_its_bad_image_is_the_batch_of_the_others(
    model: Local, examples: Sequence[Example], tmp_path: Path
) -> None:
    collator = Collator(load_processor(model))
    bad = broken(examples[1], tmp_path)
    loaded = load_batch(collator, [examples[0], bad, examples[2]])
    assert loaded.examples == [examples[0], examples[2]]
    assert [bad.location in sentence for sentence in loaded.error_messages] == [True]
    expected = collator.collate_prompts([examples[0], examples[2]])
    assert loaded.batch is not None
    assert all(torch.equal(loaded.batch[key], expected[key]) for key in expected)
    assert load_batch(collator, [bad]).batch is None


def test_processes_take_batches_in_turn_and_the_first_has_all_answers(
    model: Local, examples: Sequence[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, processor = load_model(model), load_processor(model)
    asked = [*examples[:3], broken(examples[3], tmp_path), examples[4]]
    told = (
        network,
        processor,
        asked,
        Text(max_new_tokens=3),
        EvaluationConfig(batch_size=2, num_workers=0),
    )
    alone = list(stream_predictions(*told, skip_unreadable=True))

    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "broadcast_from_main", lambda value: value)
    sent: list[Any] = []
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: sent.append(value) or [])
    assert list(stream_predictions(*told, skip_unreadable=True)) == []
    assert [len(batch) for batch in sent] == [2, 0]

    second = iter(sent)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: [value, next(second)])
    assert list(map(repr, stream_predictions(*told, skip_unreadable=True))) == list(
        map(repr, alone)
    )


def test_answers_come_in_order_with_what_could_not_be_read(
    model: Local, examples: Sequence[Example], tmp_path: Path
) -> None:
    network, processor = load_model(model), load_processor(model)
    asked = [examples[0], broken(examples[1], tmp_path), examples[2], examples[3]]
    settings = EvaluationConfig(batch_size=2, num_workers=0)
    task = Text(max_new_tokens=3)
    found = list(
        stream_predictions(network, processor, asked, task, settings, skip_unreadable=True)
    )
    assert [type(one) for one in found].count(DataError) == 1
    answered = [one for one in found if not isinstance(one, DataError)]
    assert [one.example for one in answered] == [examples[0], examples[2], examples[3]]
    assert all(0 < one.confidence <= 1 for one in answered)
    with pytest.raises(DataError, match="skip_unreadable=true leaves it out"):
        list(stream_predictions(network, processor, asked, task, settings))
