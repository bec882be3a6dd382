"""Predictions are streamed in order, with the errors of unreadable images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.predict import stream_predictions
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.tasks.text import Text

SETTINGS = EvaluationConfig(batch_size=2, num_workers=0)
TASK = Text(max_new_tokens=3)


@pytest.fixture
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma2")))


def broken(example: Example, folder: Path) -> Example:
    file = folder / "broken.png"
    file.write_text("no image")
    return replace(example, images=(str(file),), id="broken")


def test_ranks_take_batches_in_turn_and_the_main_process_yields_all_predictions(
    model: Local, examples: Sequence[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, processor = load(model), load_processor(model)
    prompts = [*examples[:3], broken(examples[3], tmp_path), examples[4]]

    def streamed() -> list[Any]:
        return list(
            stream_predictions(network, processor, prompts, TASK, SETTINGS, skip_unreadable=True)
        )

    expected = streamed()
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    monkeypatch.setattr(collectives, "broadcast_from_main", lambda value: value)
    sent: list[Any] = []
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: sent.append(value) or [])
    assert streamed() == []
    assert [[len(batch) for batch in rounds] for rounds in sent] == [[2, 0]]

    second = iter(sent)
    monkeypatch.setattr(collectives, "rank", lambda: 0)
    monkeypatch.setattr(collectives, "gather_to_main", lambda value: [value, next(second)])
    assert list(map(repr, streamed())) == list(map(repr, expected))


def test_predictions_come_in_order_with_the_errors_of_unreadable_images(
    model: Local, examples: Sequence[Example], tmp_path: Path
) -> None:
    network, processor = load(model), load_processor(model)
    prompts = [examples[0], broken(examples[1], tmp_path), examples[2], examples[3]]
    results = list(
        stream_predictions(network, processor, prompts, TASK, SETTINGS, skip_unreadable=True)
    )
    assert [type(result) for result in results].count(DataError) == 1
    predicted = [result for result in results if not isinstance(result, DataError)]
    assert [example for example, _ in predicted] == [examples[0], examples[2], examples[3]]
    assert all(0 < (prediction.confidence or 0) <= 1 for _, prediction in predicted)
    with pytest.raises(DataError, match="Set skip_unreadable=true to skip this image"):
        list(stream_predictions(network, processor, prompts, TASK, SETTINGS))
