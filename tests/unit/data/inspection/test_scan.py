"""An inspection has the examples of training, and continues after a bad row."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from palitune.data.dataset import load_split
from palitune.data.inspection.scan import InspectionConfig, scan
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.models.config import Local
from palitune.models.loading import load_processor
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

from support.toy_data import write_toy_coco, write_toy_jsonl

CONFIG = InspectionConfig(
    splits=[], train_split="train", max_length=1000, num_samples=3, codec_samples=0
)


@pytest.fixture
def processor(tiny: Callable[[str], Path]) -> object:
    return load_processor(Local(path=str(tiny("paligemma2"))))


def test_an_inspection_has_the_examples_of_training(tmp_path: Path, processor: object) -> None:
    data = Coco(path=str(write_toy_coco(tmp_path)), max_samples=7)
    task = Detection(classes=["red"], negative_ratio=0.5)
    report = scan(data.dataset_specs(task), processor, CONFIG)
    for split in report.splits:
        (part,) = load_split(data, task, split.split)
        examples = {example.id: example for example in part.examples}
        assert split.stats["examples"] == len(examples)
        assert split.stats["left_out"] == part.examples.dropped
        for _, sample in split.samples:
            example = examples[sample.id]
            assert (sample.prefix, sample.suffixes) == (example.prefix, example.suffixes)


def test_bad_rows_and_repeated_ids_are_counted(tmp_path: Path, processor: object) -> None:
    write_toy_jsonl(tmp_path)
    file = tmp_path / "train.jsonl"
    lines = file.read_text().splitlines()
    again = json.loads(lines[0]) | {"id": "another"}
    file.write_text("\n".join([*lines, lines[0], json.dumps(again), "{}", "no json"]))
    config = InspectionConfig(
        splits=["train"], train_split="train", max_length=1000, num_samples=99, codec_samples=0
    )
    (split,) = scan(Jsonl(path=str(tmp_path)).dataset_specs(Ocr()), processor, config).splits
    stats = split.stats
    assert (stats["examples"], stats["images"]) == (13, 12)
    assert (stats["bad_rows"], stats["duplicate_ids"]) == (3, 1)
    assert stats["repeated_questions"] == 1
    assert f"id 'train-0' is already used at {file}:1" in split.skipped[0]
    assert len(split.samples) == 13


def test_data_without_a_usable_row_is_refused(tmp_path: Path, processor: object) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"no row can be used, the first: .*train\.jsonl:1"):
        scan(Jsonl(path=str(tmp_path)).dataset_specs(Ocr()), processor, CONFIG)


def test_a_file_that_cannot_be_read_at_all_is_refused(tmp_path: Path, processor: object) -> None:
    (tmp_path / "train.json").write_text("not json")
    with pytest.raises(DataError, match=r"train\.json"):
        scan(Coco(path=str(tmp_path)).dataset_specs(Detection()), processor, CONFIG)


def test_control_tokens_and_texts_that_change_are_found(tmp_path: Path, processor: Any) -> None:
    write_toy_jsonl(tmp_path)
    file = tmp_path / "train.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    records[3]["text"] = "press <eos> to end"
    records[5]["text"] = "a\u2581b"
    file.write_text("\n".join(map(json.dumps, records)))
    # As in Gemma's tokenizer, U+2581 stands for a space.
    backend = processor.tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Replace("\u2581", " ")
    config = replace(CONFIG, splits=["train"])
    (split,) = scan(Jsonl(path=str(tmp_path)).dataset_specs(Ocr()), processor, config).splits
    assert (split.stats["control_words"], split.stats["bad_rows"]) == (1, 1)
    assert split.stats["examples"] == len(records) - 1
    assert f"{file}:6: the suffix 'a\u2581b' cannot be learned" in split.skipped[0]
