"""Answers that were sampled on the way of a tuning: a few prompts at each of some moments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.data.images.io import open_image
from palitune.data.images.transforms import ImageTransform
from palitune.records import Instance, Size, value_from_json
from palitune.report.images.drawing import display_size, draw_instances, load_for_display
from palitune.report.images.image_grid import load_image_grid
from palitune.report.page_stack import Thumbnail, make_thumbnail
from palitune.report.run_reader import get_instances

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_SHORT_SIDE = 150
"""Pixels of the shorter side of a picture."""
_MAX_TEXT_LENGTH = 120
"""Characters of an answer that are shown."""


@dataclass(frozen=True)
class SampledAnswer:
    """An answer, however often it was sampled."""

    text: str
    count: int
    reward: float
    grade: str
    """full | partial | zero, as the examples' marks."""
    reward_components: str
    """Each reward by name, where there are several."""


@dataclass(frozen=True)
class PromptCard:
    """The answers to one prompt."""

    id: str
    prefix: str
    mean_reward: float
    images: tuple[tuple[str, Thumbnail], ...]
    """(caption, picture); of boxes the best and the worst answer over the reference."""
    answers: tuple[SampledAnswer, ...]


def cards_by_step(samples: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[PromptCard]]]:
    """Sort the lines of `samples.jsonl` by the step after which they were sampled."""
    steps = sorted({sample["step"] for sample in samples})
    return [(step, [_prompt_card(one) for one in samples if one["step"] == step]) for step in steps]


def _prompt_card(sample: Mapping[str, Any]) -> PromptCard:
    answers = sample["answers"]
    counted = Counter(answer["text"] for answer in answers)
    first = {answer["text"]: answer for answer in reversed(answers)}
    return PromptCard(
        id=sample["id"],
        prefix=sample["prefix"],
        mean_reward=sum(answer["reward"] for answer in answers) / len(answers),
        images=_draw_answers(sample, answers),
        answers=tuple(_sampled_answer(first[text], times) for text, times in counted.items()),
    )


def _sampled_answer(answer: Mapping[str, Any], count: int) -> SampledAnswer:
    reward, text = answer["reward"], answer["text"]
    named = [f"{name} {value:.2f}" for name, value in answer["rewards"].items()]
    return SampledAnswer(
        text=text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]}…",
        count=count,
        reward=reward,
        grade="full" if reward >= 1 else "partial" if reward > 0 else "zero",
        reward_components=", ".join(named) if len(named) > 1 else "",
    )


def _load_as_transformed(path: str, size: Size, transform: ImageTransform) -> "Image":
    """Open an image as the model saw it; `size` is that of what it saw."""
    from PIL.Image import Resampling

    if not transform.transforms_boxes() or not Path(path).exists():
        return load_for_display(path, size, _MAX_SHORT_SIDE)
    return transform.apply(
        open_image(path), display_size(size, _MAX_SHORT_SIDE), Resampling.LANCZOS
    )


def _draw_answers(
    sample: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, Thumbnail], ...]:
    images, size = sample["images"], tuple(sample["size"])
    if not images:
        return ()
    name = Path(images[0]).name
    reference = value_from_json(sample["reference"])
    if any(isinstance(item, str) for item in reference):
        return (
            (
                "",
                make_thumbnail(
                    load_image_grid(images, size, _MAX_SHORT_SIDE), f"Input image {name}"
                ),
            ),
        )
    shown = _load_as_transformed(
        images[0], size, ImageTransform(sample["window"], sample["mirrored"])
    )
    ends = {"best": answers[0], "worst": answers[-1]}
    if answers[0]["reward"] == answers[-1]["reward"]:
        del ends["worst"]
    drawn = []
    for caption, answer in ends.items():
        found: tuple[Instance, ...] = get_instances(value_from_json(answer["prediction"]))
        picture = draw_instances(shown, found, size=size, references=reference)
        labels = ", ".join(one.label for one in found) or "no objects"
        drawn.append((caption, make_thumbnail(picture, f"{caption} answer on {name}: {labels}")))
    return tuple(drawn)
