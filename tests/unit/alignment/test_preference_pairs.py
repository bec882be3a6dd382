"""A file of pairs is read completely, or the invalid line is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.alignment import preference_pairs
from palitune.alignment.reward_scoring import ScoredCompletion
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.records import Example, Prediction

PAIR = {"image": "a.png", "prefix": "ocr", "chosen": "73", "rejected": "13"}


def write_rows(folder: Path, *rows: dict[str, Any]) -> Path:
    Image.new("RGB", (40, 20)).save(folder / "a.png")
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_every_line_is_a_pair(tmp_path: Path) -> None:
    [first, second] = preference_pairs.read_pairs(
        write_rows(tmp_path, PAIR, PAIR | {"chosen": "1"})
    )
    assert (first.example.prefix, first.chosen, first.rejected) == ("ocr", "73", "13")
    assert first.example.images == (str(tmp_path / "a.png"),)
    assert second.chosen == "1"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR | {"rejected": " 73"}, r"pairs.jsonl:2: chosen and rejected are both '73'"),
        (PAIR | {"chosen": None}, r"pairs.jsonl:2: column 'chosen' is missing"),
        (
            {"image": "a.png", "prefix": "ocr", "chosen": "7"},
            r":2: column 'rejected'.* must be present",
        ),
        (PAIR | {"image": "b.png"}, r"pairs.jsonl:2: .*b.png"),
    ],
)
def test_an_invalid_line_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        preference_pairs.read_pairs(write_rows(tmp_path, PAIR, row))


def test_an_empty_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no pairs"):
        preference_pairs.read_pairs(write_rows(tmp_path))


def test_pairs_are_the_best_and_worst_of_groups_that_differ_enough() -> None:
    example = Example(
        id="1", images=(), size=(1, 1), prefix="", suffixes=("",), reference=("",), location=""
    )

    def scored(reward: float) -> ScoredCompletion:
        prediction = Prediction(id="1", text=str(reward), value="")
        return ScoredCompletion(
            sample=TrainingSample(example, ""),
            prediction=prediction,
            reward_components={},
            reward=reward,
        )

    groups = [[scored(r) for r in rewards] for rewards in ((0.5, 1.0, 0.2), (0.5, 0.55), (0, 0))]
    [(best, worst)] = preference_pairs.select_pairs(groups, min_margin=0.1)
    assert (best.reward, worst.reward) == (1.0, 0.2)
