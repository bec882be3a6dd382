"""Cards of completions sampled during alignment: a few prompts at some steps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.data.images.io import open_image
from palitune.data.images.transforms import ImageTransform
from palitune.records import Size, value_from_json
from palitune.report.images.drawing import display_size, load_for_display
from palitune.report.images.image_grid import load_image_grid
from palitune.report.images.inline import InlineImage, encode_image, join_labels
from palitune.report.images.overlay import REFERENCE, Layer, draw_overlay
from palitune.report.pages.cards import CardText, ExampleCard, plain_text
from palitune.report.run_reader import get_instances

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_SHORT_SIDE = 150
"""Maximum pixels of the shorter side of an image."""
_MAX_TEXT_LENGTH = 120
"""Maximum characters shown of a completion."""


def cards_by_step(samples: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[ExampleCard]]]:
    """Return the cards of the lines of `samples.jsonl`, by the step of sampling."""
    by_step: dict[int, list[ExampleCard]] = {}
    for sample in sorted(samples, key=lambda sample: int(sample["step"])):
        by_step.setdefault(sample["step"], []).append(_prompt_card(sample))
    return list(by_step.items())


def _prompt_card(sample: Mapping[str, Any]) -> ExampleCard:
    """Return the card of a prompt, with equal completions once."""
    answers = sample["answers"]
    counts = Counter(answer["text"] for answer in answers)
    first = {answer["text"]: answer for answer in reversed(answers)}
    mean_reward = sum(answer["reward"] for answer in answers) / len(answers)
    return ExampleCard(
        id=sample["id"],
        prefix=sample["prefix"],
        badge=f"mean reward {mean_reward:.2f}",
        images=_draw_answers(sample, answers),
        texts=tuple(_answer_text(first[text], count) for text, count in counts.items()),
    )


def _answer_text(answer: Mapping[str, Any], count: int) -> CardText:
    reward, text = answer["reward"], answer["text"]
    rewards = [f"{name} {value:.2f}" for name, value in answer["rewards"].items()]
    return plain_text(
        f"{reward:.2f}" + (f" × {count}" if count > 1 else ""),
        text if len(text) <= _MAX_TEXT_LENGTH else f"{text[:_MAX_TEXT_LENGTH]}…",
        grade="full" if reward >= 1 else "partial" if reward > 0 else "zero",
        note=", ".join(rewards) if len(rewards) > 1 else "",
    )


def _load_as_transformed(path: str, size: Size, transform: ImageTransform) -> "Image":
    """Open an image as the model received it; `size`: (width, height) in pixels of that image."""
    from PIL.Image import Resampling

    if not transform.transforms_boxes() or not Path(path).exists():
        return load_for_display(path, size, _MAX_SHORT_SIDE)
    return transform.apply(
        open_image(path), display_size(size, _MAX_SHORT_SIDE), Resampling.LANCZOS
    )


def _draw_answers(
    sample: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]
) -> tuple[InlineImage, ...]:
    """Draw the best and the worst boxes over the reference; for texts, return the input image."""
    paths, size = sample["images"], tuple(sample["size"])
    if not paths:
        return ()
    name = Path(paths[0]).name
    reference = value_from_json(sample["reference"], size)
    if any(isinstance(item, str) for item in reference):
        image = load_image_grid(paths, size, _MAX_SHORT_SIDE)
        return (encode_image(image, f"Input image {name}"),)
    transform = ImageTransform(sample["window"], sample["mirrored"])
    image = _load_as_transformed(paths[0], size, transform)
    sides = {"best": answers[0]}
    if answers[0]["reward"] != answers[-1]["reward"]:
        sides["worst"] = answers[-1]
    drawn = []
    for caption, answer in sides.items():
        instances = get_instances(value_from_json(answer["prediction"], size))
        overlay = draw_overlay(size, [Layer(REFERENCE, reference), Layer(caption, instances)])
        alt = f"{caption} answer on {name}: {join_labels(instances)}"
        drawn.append(encode_image(image, alt, caption=caption, overlay=overlay))
    return tuple(drawn)
