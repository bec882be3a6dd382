"""Requests of clients, checked: images, prompt, task and limits.

Everything is hostile until it was checked here. Images stay in memory.
"""

import base64
import binascii
import io
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator

from palitune.codec.parsing import parse_json
from palitune.data.images.io import EncodedImage, read_size
from palitune.errors import DataError
from palitune.evaluation.answering import Question
from palitune.evaluation.tiles.config import InferenceTiles, MergedBox, OverlapMeasure
from palitune.records import Example, Size
from palitune.serving.config import ServerConfig
from palitune.tasks import TASKS, Task
from palitune.tasks.base import multiple_images_message
from palitune.tasks.infer_task import TaskPrompt, infer_task

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened. Pillow also reads formats that run other programs."""

GENERAL_PROMPTS = {
    "ocr": "ocr",
    "detection": "detect car ; person",
    "segmentation": "segment car",
    "vqa": "answer en what is in the image?",
    "caption": "caption en",
}
"""Prompts of PaliGemma's pre-training, by task."""


class TilesBody(BaseModel):
    """Tiles of an image that are answered one by one."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1)
    """Side of a tile in pixels."""
    overlap: float = Field(default=0.2, ge=0, lt=1)
    """Least overlap of neighboring tiles, as a fraction of their side."""
    match: OverlapMeasure = OverlapMeasure.ios
    min_overlap: float = Field(default=0.5, gt=0, le=1)
    box: MergedBox = MergedBox.union


class RequestedTiles(InferenceTiles):
    """Checked tiles of a request."""

    place = "tiles"


class PredictBody(BaseModel):
    """A question about one image, or several for tasks without boxes."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = None
    """Image file as base64 or data URI."""
    images: list[str] = Field(default_factory=list)
    """Several images of one prompt, instead of `image`."""
    prompt: str | None = None
    """Prompt, for example "detect boat ; buoy"; without it, that of `task`."""
    task: str | None = None
    """Task that parses the answer; without it, the prompt's first word tells it."""
    adapter: str | None = None
    """Adapter that answers, or "base"; without it, the first adapter."""
    min_score: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
    """Leave out objects with a lower score; auto: the adapter's thresholds of best F1; without it,
    the server's setting."""
    constrained: bool = False
    """Generate only well-formed objects with the labels of the prompt."""
    num_beams: int = Field(default=1, ge=1, le=8)
    """Beams; 1: greedy decoding."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of the answer; without it, the task's."""
    tiles: TilesBody | Literal[False] | None = None
    """Answer overlapping tiles of the image and merge their objects; false: the whole image;
    without it, the tiles that the adapter was trained with. A form sends it as JSON."""
    masks: str = Field(default="rle", pattern="^(rle|png)$")
    """Format of masks: COCO's run lengths, or PNG as data URI."""

    @field_validator("tiles", mode="before")
    @classmethod
    def _parse_tiles(cls, value: Any) -> Any:
        """Parse the JSON of a form."""
        return parse_json(value) if isinstance(value, str) else value


def predict_schema() -> dict[str, Any]:
    """Return the JSON schema of a request without references to definitions of its own."""
    schema = PredictBody.model_json_schema()
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            rest = {name: value for name, value in node.items() if name != "$ref"}
            return inlined({**definitions[node["$ref"].rpartition("/")[2]], **rest})
        return {name: inlined(value) for name, value in node.items()}

    return dict(inlined(schema))


@dataclass(frozen=True)
class ServedTasks:
    """The tasks of the served model; other tasks have their defaults."""

    tasks: tuple[Task, ...]

    def resolve(self, prompt: str | None, name: str | None) -> TaskPrompt:
        """Return prompt and task of a request. Raises DataError."""
        if name is not None:
            return infer_task(prompt, self._task(name))
        if prompt is None:
            if len(self.tasks) != 1:
                raise DataError("prompt is missing. Send prompt or task.")
            return infer_task(None, self.tasks[0])
        return infer_task(prompt, None, self.tasks)

    def presets(self) -> list[dict[str, str]]:
        """Return the tasks with a prompt of each: first those of the model, then PaliGemma's."""
        presets = {}
        for task in self.tasks:
            with suppress(DataError):  # a task whose prompt depends on the image
                presets[task.name] = infer_task(None, task).prompt
        return [
            {"task": name, "prompt": prompt}
            for name, prompt in {**presets, **GENERAL_PROMPTS, **presets}.items()
        ]

    def _task(self, name: str) -> Task:
        if served := [task for task in self.tasks if task.name == name]:
            return served[0]
        if name not in TASKS:
            raise DataError(f"task must be one of {', '.join(TASKS)}, got {name[:40]!r}.")
        return TASKS[name]()


def decode_image(text: str, settings: ServerConfig) -> EncodedImage:
    """Decode a data URI or base64. Raises DataError if it is neither, or too large."""
    if text.startswith("data:"):
        header, _, text = text.partition(",")
        if not header.endswith(";base64"):
            raise DataError("image must be base64 in a data URI. Send data:image/png;base64,....")
    if len(text) > 4 * (settings.max_image_bytes // 3 + 1):
        raise DataError(_too_many_bytes(settings))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("image must be base64 or a data URI, and is neither.") from None
    return check_image(data, settings)


def check_image(data: bytes, settings: ServerConfig) -> EncodedImage:
    """Check bytes, format and pixels of an image file before it is decoded. Raises DataError."""
    if len(data) > settings.max_image_bytes:
        raise DataError(_too_many_bytes(settings))
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError:
        raise DataError(_too_many_pixels(settings)) from None
    except Exception:  # Pillow's plugins raise anything for damaged headers
        raise DataError(
            f"image must be one of {', '.join(IMAGE_FORMATS)}, and cannot be opened."
        ) from None
    if pixels > settings.max_image_pixels:
        raise DataError(_too_many_pixels(settings))
    return EncodedImage(data)


def build_question(
    body: PredictBody,
    images: list[EncodedImage],
    tasks: ServedTasks,
    settings: ServerConfig,
    default_tiles: InferenceTiles | None = None,
) -> Question:
    """Return the question of a request.

    Args:
        body: The request.
        images: Its checked images.
        tasks: Tasks of the served model.
        settings: Limits.
        default_tiles: Tiles of a request that does not set its own, for tasks with boxes.

    Raises:
        DataError: A limit is exceeded, a task or an image is missing.
    """
    if not 1 <= len(images) <= settings.max_images:
        raise DataError(f"images must be 1 to {settings.max_images}, got {len(images)}.")
    if body.prompt is not None:
        _check_prompt(body.prompt, settings)
    prompt = tasks.resolve(body.prompt, body.task)
    if prompt.task.single_image_only and len(images) > 1:
        raise DataError(multiple_images_message("images", len(images), prompt.task.name))
    limit = min(body.max_new_tokens or prompt.task.max_new_tokens, settings.max_answer_tokens)
    example = Example(
        id="request",
        images=tuple(images),
        size=read_size(images[0]),
        prefix=prompt.prompt,
        suffixes=(),
        reference=(),
        location="request",
        component=prompt.task.name,
    )
    return Question(
        example=example,
        task=prompt.task,
        constrained=body.constrained,
        max_new_tokens=limit,
        tiles=_tiles(body, prompt.task, example.size, settings, default_tiles),
    )


def _tiles(
    body: PredictBody,
    task: Task,
    size: Size,
    settings: ServerConfig,
    default_tiles: InferenceTiles | None,
) -> InferenceTiles | None:
    """Return the tiles of a request; None for the whole image. Raises DataError."""
    if body.tiles is False or (body.tiles is None and not task.allow_crop):
        return None
    if not task.allow_crop:
        raise DataError(
            f"tiles must be false for a task without the boxes of all objects, got {task.name}. "
            "Send task detection or segmentation."
        )
    try:
        tiles = default_tiles if body.tiles is None else RequestedTiles(**dict(body.tiles))
        count = 1 if tiles is None else len(tiles.grid(size))
    except ValueError as error:
        raise DataError(str(error)) from None
    if count > settings.max_tiles:
        raise DataError(
            f"an image of {size[0]} x {size[1]} px has {count} tiles, more than "
            f"max_tiles={settings.max_tiles}. Send a larger tiles.size, or tiles=false."
        )
    return tiles


def _check_prompt(prompt: str, settings: ServerConfig) -> None:
    if len(prompt) > settings.max_prompt_chars:
        raise DataError(
            f"prompt must have at most {settings.max_prompt_chars} characters, got {len(prompt)}."
        )
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in prompt if char not in "\n\t"):
        raise DataError("prompt must be text without control characters.")


def _too_many_bytes(settings: ServerConfig) -> str:
    return f"image must have at most {settings.max_image_bytes} bytes. Send a smaller file."


def _too_many_pixels(settings: ServerConfig) -> str:
    return f"image must have at most {settings.max_image_pixels} pixels. Send a smaller image."
