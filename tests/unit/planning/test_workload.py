"""Lengths are counted on the data, or assumed without data."""

from collections.abc import Callable
from pathlib import Path

from palitune.data.sources.jsonl import Jsonl
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.workload import AssumedLengths, measure_workload
from palitune.tasks.ocr import Ocr
from palitune.training.config import TrainingConfig

from support.toy_data import write_toy_jsonl

UNSET = AssumedLengths(None, None, None)


def test_without_data_lengths_are_assumed_or_set(tmp_path: Path) -> None:
    model = Local(path="nowhere")
    assumed = measure_workload(None, None, model, TrainingConfig(), UNSET)
    assert (assumed.text, assumed.suffix, assumed.num_steps(TrainingConfig())) == (64, 32, None)
    set_lengths = measure_workload(None, None, model, TrainingConfig(), AssumedLengths(10, 100, 33))
    assert (
        set_lengths.text,
        set_lengths.suffix,
        set_lengths.num_steps(TrainingConfig(global_batch_size=16)),
    ) == (
        110,
        100,
        3,
    )
    assert set_lengths.num_steps(TrainingConfig(max_steps=7)) == 7
    unreadable = measure_workload(
        Jsonl(path=str(tmp_path / "no")), Ocr(), model, TrainingConfig(), UNSET
    )
    assert unreadable.text == 64
    assert "does not exist" in unreadable.source


def test_lengths_are_counted_on_the_rows(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    data = Jsonl(path=str(write_toy_jsonl(tmp_path / "toys")))
    model = Local(path=str(tiny("paligemma2")))
    counted = measure_workload(data, Ocr(), model, TrainingConfig(micro_batch_size=1), UNSET)
    assert (counted.examples, counted.images, counted.row_images) == (12, 12, 1)
    assert counted.mean_text < counted.text
    padded = measure_workload(data, Ocr(), model, TrainingConfig(micro_batch_size=16), UNSET)
    assert padded.mean_text == counted.text
    model_shape = build_model_shape(model, Lora())
    batch = counted.longest_batch(model_shape, 4)
    assert (batch.seq_len, batch.num_labels) == (
        model_shape.num_patches + counted.text,
        4 * counted.suffix,
    )
    assert (
        measure_workload(data, Ocr(), model, TrainingConfig(), AssumedLengths(5, 6, None)).text
        == 11
    )
