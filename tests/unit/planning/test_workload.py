"""Lengths are counted on the data; where there is none they are as told."""

from collections.abc import Callable
from pathlib import Path

from palitune.data.sources.jsonl import Jsonl
from palitune.models.adapters import Lora
from palitune.models.checkpoints import Local
from palitune.planning.on_paper import put_on_paper
from palitune.planning.workload import Told, look
from palitune.tasks.ocr import Ocr
from palitune.training.settings import Training

from toy_data import write_toy_jsonl

NOTHING = Told(None, None, None)


def test_without_data_lengths_are_assumed_or_told(tmp_path: Path) -> None:
    model = Local(path="nowhere")
    assumed = look(None, None, model, Training(), NOTHING)
    assert (assumed.text, assumed.suffix, assumed.steps(Training())) == (64, 32, None)
    told = look(None, None, model, Training(), Told(10, 100, 33))
    assert (told.text, told.suffix, told.steps(Training(batch_size=16))) == (110, 100, 3)
    assert told.steps(Training(max_steps=7)) == 7
    absent = look(Jsonl(path=str(tmp_path / "no")), Ocr(), model, Training(), NOTHING)
    assert absent.text == 64
    assert "does not exist" in absent.source


def test_lengths_are_those_of_the_rows(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    data = Jsonl(path=str(write_toy_jsonl(tmp_path / "toys")))
    model = Local(path=str(tiny("paligemma2")))
    counted = look(data, Ocr(), model, Training(micro_batch_size=1), NOTHING)
    assert (counted.examples, counted.images, counted.row_images) == (12, 12, 1)
    assert counted.mean_text < counted.text
    together = look(data, Ocr(), model, Training(micro_batch_size=16), NOTHING)
    assert together.mean_text == counted.text
    paper = put_on_paper(model, Lora())
    batch = counted.longest(paper, 4)
    assert (batch.tokens, batch.labels) == (paper.patches + counted.text, 4 * counted.suffix)
    assert look(data, Ocr(), model, Training(), Told(5, 6, None)).text == 11
