"""Sampled answers by step, equal ones once, with the best and the worst boxes drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from palitune.data.images.transforms import ImageTransform
from palitune.records import Instance, value_to_json
from palitune.report.pages import sampled_answers

BOAT = (Instance("boat", (10.0, 10.0, 50.0, 50.0)),)


def answer(text: str, reward: float, value: Any = ()) -> dict[str, Any]:
    rewards = {"mean_iou": reward, "valid": 1.0}
    return {
        "text": text, "prediction": value_to_json(value), "reward": reward, "rewards": rewards
    }  # fmt: skip


def sample(folder: Path, step: int, *answers: dict[str, Any]) -> dict[str, Any]:
    Image.new("RGB", (80, 60), "white").save(folder / "a.png")
    return {
        "step": step, "part": "detection", "id": "1", "images": [str(folder / "a.png")],
        "window": None, "mirrored": False, "size": [80, 60], "prefix": "detect boat",
        "reference": value_to_json(BOAT), "answers": list(answers),
    }  # fmt: skip


def test_equal_answers_are_counted_and_ranked_by_reward(tmp_path: Path) -> None:
    answers = answer("a boat", 1.0, BOAT), answer("a boat", 1.0, BOAT), answer("x" * 500, 0.0, None)
    [(step, [card])] = sampled_answers.cards_by_step([sample(tmp_path, 3, *answers)])
    assert (step, card.badge) == (3, "mean reward 0.67")
    assert [(text.caption, text.grade) for text in card.texts] == [
        ("1.00 × 2", "full"),
        ("0.00", "zero"),
    ]
    (((text, _),),) = card.texts[1].segments
    assert len(text) < 200
    assert card.texts[0].note == "mean_iou 1.00, valid 1.00"
    assert [image.caption for image in card.images] == ["best", "worst"]
    assert card.images[0].alt == "best answer on a.png: boat"


def test_steps_are_in_order_and_equal_rewards_have_no_worst(tmp_path: Path) -> None:
    lines = [sample(tmp_path, step, answer("", 0.5)) for step in (9, 1, 9)]
    steps = sampled_answers.cards_by_step(lines)
    assert [(step, len(cards)) for step, cards in steps] == [(1, 1), (9, 2)]
    assert [image.caption for image in steps[0][1][0].images] == ["best"]


def test_boxes_are_drawn_on_the_transformed_image(tmp_path: Path) -> None:
    page = Image.new("RGB", (80, 60), "white")
    page.paste("black", (0, 0, 40, 60))
    page.save(tmp_path / "a.png")
    image = sampled_answers._load_as_transformed(
        str(tmp_path / "a.png"), (60, 60), ImageTransform((20, 0, 80, 60), hflip=True)
    )
    dark = np.asarray(image.convert("L")).mean(axis=0) < 128
    assert not dark[: len(dark) // 2].any()
    assert dark.mean() == pytest.approx(1 / 3, abs=0.02)
