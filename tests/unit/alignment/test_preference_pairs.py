"""A file of pairs is read whole, or the line that is none is named."""

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


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    Image.new("RGB", (40, 20)).save(folder / "a.png")
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_every_line_is_a_pair(tmp_path: Path) -> None:
    [one, other] = preference_pairs.read_pairs(written(tmp_path, PAIR, PAIR | {"chosen": "1"}))
    assert (one.example.prefix, one.chosen, one.rejected) == ("ocr", "73", "13")
    assert one.example.images == (str(tmp_path / "a.png"),)
    assert other.chosen == "1"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (PAIR | {"rejected": " 73"}, r"pairs.jsonl:2: chosen and rejected are both '73'"),
        (PAIR | {"chosen": None}, r"pairs.jsonl:2: column 'chosen' is missing"),
        ({"image": "a.png", "prefix": "ocr", "chosen": "7"}, r":2: column 'rejected'.* is missing"),
        (PAIR | {"image": "b.png"}, r"pairs.jsonl:2: .*b.png"),
    ],
)
def test_a_line_that_is_no_pair_is_named(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        preference_pairs.read_pairs(written(tmp_path, PAIR, row))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pairs"):
        preference_pairs.read_pairs(written(tmp_path))


def test_pairs_are_the_ends_of_groups_that_are_far_enough_apart() -> None:
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
