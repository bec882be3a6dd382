"""Examples from the cache equal those of the rows, and are rebuilt when a dependency changes."""

import importlib.util
import json
import logging
import os
import pickle
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.data.dataset import ConcatDataset, Examples, load_split, load_training_split
from palitune.data.example_cache import cache_folder
from palitune.data.sources.base import Data, Source
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.mixture import Mixture, MixtureComponent
from palitune.errors import DataError
from palitune.records import Example, Instance, Row
from palitune.tasks import TASKS, Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.science_qa import ScienceQa
from palitune.tasks.vqa import Vqa

from support.toy_data import SPLITS, write_toy_jsonl

CLASSES = ["blue", "green", "red"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toy_jsonl(tmp_path / "toy")


def examples_of(data: Data, task: Task | None = None, split: str = "train") -> Examples:
    [part] = load_split(data, task or Ocr(), split)
    return part.examples


def write_rows(folder: Path, *rows: Any) -> Jsonl:
    """Write rows (text as it is) beside an image `a.png`."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    lines = [row if isinstance(row, str) else json.dumps({"image": "a.png"} | row) for row in rows]
    (folder / "train.jsonl").write_text("\n".join(lines))
    return Jsonl(path=str(folder))


def failure(data: Data, task: Task | None = None, split: str = "train") -> str:
    with pytest.raises(DataError) as caught:
        load_split(data, task or Ocr(), split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", ["ocr", "vqa", "caption", "detection"])
def test_examples_from_disk_are_what_the_task_wrote(folder: Path, task: str, split: str) -> None:
    chosen = Detection(classes=CLASSES) if task == "detection" else TASKS[task]()
    source = Jsonl(path=str(folder))
    rows = [row for row in source.rows(split) if isinstance(row, Row)]
    expected = [vars(chosen.example(row)) | {"component": task} for row in rows]
    [part] = load_split(source, chosen, split)
    assert (part.name, part.task, part.repeat) == (task, chosen, 1)
    assert [vars(example) for example in part.examples] == expected
    assert len(part.examples) == SPLITS[split]
    assert part.examples.skipped == []


def test_coco_examples_ask_for_the_classes_of_the_file(toy_coco: Path) -> None:
    example = examples_of(Coco(path=str(toy_coco)), Detection())[0]
    assert example.prefix == "detect blue ; green ; red"
    assert example.component == "detection"


def test_examples_are_a_sequence(folder: Path) -> None:
    examples = examples_of(Jsonl(path=str(folder)))
    assert [e.id for e in examples] == [f"train-{n}" for n in range(12)]
    assert examples[-1] == examples[11]
    assert examples[2:5] == [examples[2], examples[3], examples[4]]
    for outside in (12, -13):
        with pytest.raises(IndexError, match="of 12"):
            examples[outside]


def test_more_examples_than_one_batch_keep_their_order(tmp_path: Path) -> None:
    rows = [{"text": str(number)} for number in range(2345)]
    examples = examples_of(write_rows(tmp_path / "d", *rows))
    assert len(examples) == 2345
    assert [examples[n].suffixes[0] for n in (0, 999, 1000, 1999, 2000, 2344)] == [
        "0", "999", "1000", "1999", "2000", "2344"
    ]  # fmt: skip


def test_iterating_and_indexing_give_the_same_examples(tmp_path: Path) -> None:
    rows = [{"text": str(number)} for number in range(1005)]
    examples = examples_of(write_rows(tmp_path / "d", *rows))
    assert list(examples) == [examples[n] for n in range(1005)]
    some = examples.subsample(7, seed=1)
    assert list(some) == [some[n] for n in range(7)]


def test_limit_takes_the_first_examples_and_reads_no_further(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d", {"text": "a"}, {"text": "b"}, "{ not read")
    source.max_samples = 2
    assert [e.suffixes for e in examples_of(source)] == [("a",), ("b",)]


def test_a_copy_in_another_process_carries_the_folder_only(folder: Path) -> None:
    examples = examples_of(Jsonl(path=str(folder)))
    pickled = pickle.dumps(examples)
    assert len(pickled) < 500
    assert list(pickle.loads(pickled)) == list(examples)


class Counting(Jsonl):
    """A source that counts how often it is read."""

    times = 0

    def rows(self, split: str) -> Any:
        Counting.times += 1
        return super().rows(split)


def reads(source: Source, task: Task | None = None, split: str = "train") -> int:
    before = Counting.times
    examples_of(source, task, split)
    return Counting.times - before


def test_a_second_load_comes_from_the_cache(folder: Path) -> None:
    source = Counting(path=str(folder))
    assert [reads(source) for _ in range(3)] == [1, 0, 0]
    assert reads(source, split="val") == 1
    assert reads(source, split="validation") == 0


def test_every_dependency_of_the_examples_is_part_of_the_cache_key(folder: Path) -> None:
    source = Counting(path=str(folder))
    assert reads(source, Caption()) == 1
    assert reads(source, Caption(language="de")) == 1
    assert reads(source, Vqa()) == 1
    assert reads(Counting(path=str(folder), max_samples=3), Vqa()) == 1
    moved = time.time_ns()
    os.utime(folder / "train.jsonl", ns=(moved, moved))
    assert reads(source, Vqa()) == 1
    (folder / "train.jsonl").write_text((folder / "train.jsonl").read_text() + "\n")
    os.utime(folder / "train.jsonl", ns=(moved, moved))
    assert reads(source, Vqa()) == 1
    assert reads(source, Vqa()) == 0


def test_moved_images_are_found_again_or_reported_with_their_row(
    folder: Path, toy_coco: Path, tmp_path: Path
) -> None:
    coco = tmp_path / "coco"
    shutil.copytree(toy_coco, coco)
    before = examples_of(Coco(path=str(coco)), Detection())
    (coco / "images").rename(coco / "train")
    after = examples_of(Coco(path=str(coco)), Detection())
    assert [e.images[0].replace("/train/", "/images/") for e in after] == [
        e.images[0] for e in before
    ]
    examples_of(Jsonl(path=str(folder)))
    (folder / "images").rename(folder / "pictures")
    assert failure(Jsonl(path=str(folder))).startswith(
        f"{folder}/train.jsonl:1: image {folder}/images/train_00.png does not exist"
    )


def test_a_changed_task_makes_new_examples(folder: Path, tmp_path: Path) -> None:
    source = Counting(path=str(folder))
    for text, count in (("read", 1), ("read", 0), ("read aloud", 1)):
        (tmp_path / "my_task.py").write_text(
            "from dataclasses import dataclass\nfrom palitune.tasks.ocr import Ocr\n"
            f"@dataclass(kw_only=True)\nclass Mine(Ocr):\n"
            f"    def prefix(self, row):\n        return {text!r}\n"
        )
        assert reads(source, imported(tmp_path / "my_task.py").Mine()) == count


def imported(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("my_task", file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["my_task"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cache_folder_is_in_the_environment_variable_or_the_home_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("PALITUNE_CACHE")
    assert cache_folder() == Path.home() / ".cache/palitune/examples"


def test_concurrent_builders_agree_and_leave_nothing_behind(folder: Path, cache: Path) -> None:
    source = Jsonl(path=str(folder))
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: list(examples_of(source)), range(8)))
    assert all(examples == built[0] for examples in built)
    assert len(list(cache.iterdir())) == 1


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    source = write_rows(tmp_path / "d", {"text": "a"}, "{")
    failure(source)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(folder / "train.jsonl"))
    assert failure(Jsonl(path=str(folder))).endswith(
        "set the environment variable PALITUNE_CACHE to a folder with free space"
    )


def test_the_first_bad_row_is_an_error(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d", {"text": "a"}, {"text": ""}, {"text": "c"})
    assert failure(source) == (
        f"{tmp_path}/d/train.jsonl:2: column 'text' contains an empty text, which cannot be a "
        "target. Remove the row or fill in the text (bad rows so far: 1; data.max_bad_rows=0)"
    )


def test_bad_rows_up_to_the_limit_are_skipped_and_told_again_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_rows(tmp_path / "d", {"text": "a"}, "{", {"text": "b"}, {"id": 4})
    source.max_bad_rows = 2
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            examples = examples_of(source)
        assert [example.suffixes for example in examples] == [("a",), ("b",)]
        assert [line.split(": ")[0] for line in examples.skipped] == [
            f"{tmp_path}/d/train.jsonl:2",
            f"{tmp_path}/d/train.jsonl:4",
        ]
        assert caplog.messages == [
            f"ocr, train: bad rows skipped: 2, the first: {examples.skipped[0]}"
        ]


def test_too_many_bad_rows_report_the_first_and_the_setting(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d", {"id": 1}, {"text": "a"}, "{", "{", "{")
    source.max_bad_rows = 2
    assert failure(source) == (
        f"{tmp_path}/d/train.jsonl:1: column 'text' is missing, but this task requires it "
        "(bad rows so far: 3; data.max_bad_rows=2)"
    )


def test_an_id_that_occurs_twice_is_a_bad_row(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d", {"id": "x", "text": "a"}, {"id": "x", "text": "b"})
    assert failure(source).startswith(
        f"{tmp_path}/d/train.jsonl:2: id 'x' is already used at {tmp_path}/d/train.jsonl:1; "
        "ids must be unique, change it or leave the column out"
    )


@pytest.mark.parametrize(
    ("column", "value", "task"),
    [
        ("answers", [], Vqa()),
        ("answers", ["a", " "], Vqa()),
        ("captions", "", Caption()),
        ("text", "\n", Ocr()),
    ],
)
def test_an_empty_target_is_a_bad_row(tmp_path: Path, column: str, value: Any, task: Task) -> None:
    source = write_rows(tmp_path / "d", {"question": "q", column: value})
    assert failure(source, task).startswith(
        f"{tmp_path}/d/train.jsonl:1: column '{column}' contains an empty text, "
    )


def test_a_split_without_examples_is_an_error(tmp_path: Path) -> None:
    start = f"{tmp_path}/d/train.jsonl: split 'train' has no examples; "
    source = write_rows(tmp_path / "d")
    assert failure(source) == start + "check that it is the right file"
    source = write_rows(tmp_path / "d", "{")
    source.max_bad_rows = 1
    assert failure(source).startswith(start + "every row is bad, the first: ")
    source = write_rows(tmp_path / "d", {"text": "a"})
    source.validation_fraction = 0.01
    assert failure(source, split="validation").endswith(
        "data.validation_fraction=0.01 of so few images is none; set it higher"
    )


def mixture(folder: Path) -> Mixture:
    source = Jsonl(path=str(folder))
    return Mixture(
        parts={
            "texts": MixtureComponent(task=Ocr(), data=source, repeat=2),
            "questions": MixtureComponent(
                task=Vqa(), data=Jsonl(path=str(folder), max_samples=5), repeat=3
            ),
        }
    )


def test_a_mixture_is_loaded_as_named_data_sets(folder: Path) -> None:
    parts = load_split(mixture(folder), None, "train")
    assert [(part.name, part.repeat, len(part.examples)) for part in parts] == [
        ("texts", 2, 12),
        ("questions", 3, 5),
    ]
    assert {example.component for part in parts for example in part.examples} == {
        "texts",
        "questions",
    }


def test_a_concatenation_repeats_each_data_set(folder: Path) -> None:
    parts = load_split(mixture(folder), None, "train")
    together = ConcatDataset(parts)
    texts, questions = (list(part.examples) for part in parts)
    assert list(together) == texts * 2 + questions * 3
    assert [together[n] for n in range(39)] == list(together)
    assert len(together) == 12 * 2 + 5 * 3
    assert together[-1] == questions[-1]
    assert together[11:13] == [texts[11], texts[0]]
    assert isinstance(together[0], Example)
    with pytest.raises(IndexError):
        together[39]
    assert list(pickle.loads(pickle.dumps(together))) == list(together)


def shots(folder: Path, **settings: Any) -> Mixture:
    source = Jsonl(path=str(folder))
    return Mixture(
        parts={
            "texts": MixtureComponent(task=Ocr(), data=source, **settings),
            "questions": MixtureComponent(task=Vqa(), data=source, **settings),
            "evaluated": MixtureComponent(task=Caption(), data=Jsonl(path="nowhere"), weight=0),
        }
    )


def test_components_of_weight_zero_are_not_loaded_for_training(folder: Path) -> None:
    parts = load_training_split(shots(folder), None, "train", seed=0)
    assert [part.name for part in parts] == ["texts", "questions"]
    assert ConcatDataset(parts).mixture_schedule(0) is None
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_split(shots(folder), None, "test")


def test_more_shots_contain_fewer_shots_and_components_select_the_same_images(
    folder: Path,
) -> None:
    def selected_ids(count: int, seed: int) -> list[list[str]]:
        parts = load_training_split(shots(folder, shots=count), None, "train", seed)
        return [[example.id for example in part.examples] for part in parts]

    few, more = selected_ids(3, 0), selected_ids(7, 0)
    assert few[0] == few[1] == more[0][:3]
    assert selected_ids(3, 0) == few != selected_ids(3, 1)
    [part, _] = load_training_split(shots(folder, shots=3), None, "train", 0)
    assert [part.examples.row(position).id for position in range(3)] == few[0]
    assert list(pickle.loads(pickle.dumps(part.examples))) == list(part.examples)
    assert (
        len({examples.fingerprint() for examples in (part.examples, part.examples.subsample(2, 0))})
        == 2
    )
    with pytest.raises(
        DataError, match=r"^data\.parts\.texts\.shots must be at most 12, .* got 13"
    ):
        selected_ids(13, 0)


def test_temperature_weights_components_by_a_root_of_their_sizes(folder: Path) -> None:
    both = mixture(folder)
    parts = {name: replace(part, repeat=1) for name, part in both.parts.items()}
    both = Mixture(parts=parts, temperature=2.0)
    loaded = load_training_split(both, None, "train", 0)
    assert [part.weight for part in loaded] == pytest.approx([12**0.5, 5**0.5])
    schedule = ConcatDataset(loaded).mixture_schedule(0)
    assert schedule is not None
    assert [len(visits) for visits in schedule.epoch_visits(0)] == [10, 7]


def test_a_weight_that_gives_less_than_one_sample_is_refused(folder: Path) -> None:
    both = mixture(folder)
    weights = {"texts": 1.0, "questions": 0.01}
    parts = {k: replace(p, repeat=1, weight=weights[k]) for k, p in both.parts.items()}
    loaded = load_training_split(Mixture(parts=parts), None, "train", 0)
    with pytest.raises(
        DataError, match=r"^data\.parts\.questions: its weight gives it 9\.9e-03 of the 17"
    ):
        ConcatDataset(loaded).mixture_schedule(0)


def test_a_source_requires_a_task_and_a_mixture_refuses_one(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^task is missing"):
        load_split(Jsonl(path=str(folder)), None, "train")
    with pytest.raises(ValueError, match=r"^task must not be set for a mixture"):
        load_split(mixture(folder), Ocr(), "train")


def boats(count: int) -> list[dict[str, Any]]:
    return [{"label": "boat", "box": [n, 0, n + 5, 9]} for n in range(count)]


def test_what_a_task_drops_is_counted_and_reported_again_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_rows(tmp_path / "d", *({"instances": boats(n)} for n in (1, 4, 0, 3)))
    task = Detection(classes=["boat"], max_objects=2, negative_ratio=0)
    file = f"{tmp_path}/d/train.jsonl"
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            examples = examples_of(source, task)
        assert [example.id for example in examples] == ["train-1", "train-2", "train-4"]
        assert [example.suffixes[0].count("boat") for example in examples] == [1, 2, 2]
        assert examples.dropped == [
            f"left out: 3 objects over task.max_objects=2, in 2 rows: {file}:2 (2); {file}:4",
            f"left out: 1 images without objects (task.negative_ratio), in 1 rows: {file}:3",
        ]
        assert caplog.messages == [f"detection, train: {message}" for message in examples.dropped]


def test_negatives_are_dropped_in_the_train_split_only(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "d", {"instances": boats(1)}, {"instances": []})
    shutil.copy(tmp_path / "d/train.jsonl", tmp_path / "d/test.jsonl")
    task = Detection(classes=["boat"], negative_ratio=0)
    counts = [len(load_split(source, task, split)[0].examples) for split in ("train", "test")]
    assert counts == [1, 2]


def test_choices_and_a_marked_box_are_cached(tmp_path: Path) -> None:
    row = {"question": "q", "answers": ["b"], "choices": ["a", "b"], "captions": "a boat"}
    source = write_rows(tmp_path / "d", row | {"instances": boats(1)})
    [example] = examples_of(source, ScienceQa())
    assert (example.choices, example.marked_box) == (("a", "b"), None)
    [example] = examples_of(source, Caption(mark=True))
    assert (example.choices, example.marked_box) == ((), (0.0, 0.0, 5.0, 9.0))


def test_masks_are_cached(tmp_path: Path) -> None:
    square = [1, 2, 11, 2, 11, 12, 1, 12]
    objects = [{"label": "boat", "box": [1, 2, 11, 12], "mask": square}]
    source = write_rows(tmp_path / "d", {"instances": objects})
    source.masks = True
    [example] = examples_of(source, Detection(classes=["boat"]))
    [instance] = example.reference
    assert isinstance(instance, Instance)
    assert instance.mask is not None
    assert int(instance.mask[2:12, 1:11].sum()) == int(instance.mask.sum()) == 100


def test_a_split_without_references_is_accepted_on_request(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "q", {"question": "how many?"}, {"question": "what colour?"})
    with pytest.raises(DataError, match="column 'answers' is missing"):
        load_split(source, Vqa(), "train")
    [part] = load_split(source, Vqa(), "train", allow_missing_references=True)
    assert not part.has_references
    assert [(e.prefix, e.suffixes, e.reference) for e in part.examples] == [
        ("answer en how many?", (), ()),
        ("answer en what colour?", (), ()),
    ]
    with pytest.raises(
        DataError, match="prompts without references and cannot be used for training"
    ):
        load_split(source, Vqa(), "train")  # also where it lies in the cache


def test_a_split_has_references_in_all_rows_or_in_none(tmp_path: Path) -> None:
    prompt_only, answered = {"question": "how many?"}, {"question": "how many?", "answer": "2"}
    source = write_rows(tmp_path / "a", answered, prompt_only)
    with pytest.raises(DataError, match=r"train\.jsonl:2: column 'answers' is missing"):
        load_split(source, Vqa(), "train", allow_missing_references=True)
    source = write_rows(tmp_path / "b", prompt_only, answered)
    with pytest.raises(
        DataError, match=r"train\.jsonl:2: the row has a reference, but the rows before"
    ):
        load_split(source, Vqa(), "train", allow_missing_references=True)


def test_a_fingerprint_depends_on_the_content_and_not_on_the_folder(
    folder: Path, tmp_path: Path
) -> None:
    fingerprint = examples_of(Jsonl(path=str(folder))).fingerprint()
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert examples_of(Jsonl(path=str(tmp_path / "elsewhere"))).fingerprint() == fingerprint
    assert len(fingerprint) == 16


def test_another_text_size_or_image_has_another_fingerprint(tmp_path: Path) -> None:
    rows = [{"text": "7"}, {"text": "8"}, {"text": "7", "image": "b.png"}]
    (tmp_path / "rows").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "rows/b.png")
    fingerprints = {examples_of(write_rows(tmp_path / "rows", row)).fingerprint() for row in rows}
    assert len(fingerprints) == len(rows)
