"""Kept answers of the playground as a data set: a ZIP file that `data=jsonl` and `data=coco` read.

The folder `train` has the images, `metadata.jsonl` with a row for every answer, and
`_annotations.coco.json` with the answers that are boxes.
"""

import io
import json
import zipfile
from typing import Annotated, Any

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from palitune.data.images.io import EncodedImage, read_header
from palitune.errors import DataError
from palitune.serving.config import ServerConfig
from palitune.serving.requests import IMAGE_FORMATS, decode_image

MAX_ITEMS = 1000

Coordinate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class KeptObject(BaseModel):
    """A box with its label."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=200)
    box: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    """x0, y0, x1, y1 in pixels."""


class KeptAnswer(BaseModel):
    """An answer as its user corrected it: a text, or objects."""

    model_config = ConfigDict(extra="forbid")

    image: str
    prompt: str = Field(max_length=2000)
    text: str | None = Field(default=None, max_length=20_000)
    instances: list[KeptObject] | None = Field(default=None, max_length=1000)


class KeptAnswers(BaseModel):
    """The body of `/v1/dataset`."""

    model_config = ConfigDict(extra="forbid")

    items: list[KeptAnswer] = Field(min_length=1, max_length=MAX_ITEMS)


def build_dataset(kept: KeptAnswers, settings: ServerConfig) -> bytes:
    """Return the ZIP file. Raises DataError for an image that cannot be read or a wrong box."""
    file = io.BytesIO()
    rows: list[dict[str, Any]] = []
    coco = _Coco()
    with zipfile.ZipFile(file, "w") as archive:
        for number, item in enumerate(kept.items, 1):
            image = decode_image(item.image, settings)
            name = f"{number:04d}.{_extension(image)}"
            archive.writestr(f"train/{name}", image.data)
            rows.append(_row(name, item))
            if item.instances is not None:
                coco.add(name, image, item.instances)
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        archive.writestr("train/metadata.jsonl", lines)
        if coco.images:
            archive.writestr("train/_annotations.coco.json", coco.to_json())
    return file.getvalue()


def _row(name: str, item: KeptAnswer) -> dict[str, Any]:
    row: dict[str, Any] = {"image": name}
    if item.instances is None:
        return row | {"prefix": item.prompt, "suffix": item.text or ""}
    return row | {"instances": [instance.model_dump() for instance in item.instances]}


def _extension(image: EncodedImage) -> str:
    with Image.open(io.BytesIO(image.data), formats=IMAGE_FORMATS) as opened:
        return str(opened.format).lower()


class _Coco:
    """A COCO file that grows."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.category_ids: dict[str, int] = {}

    def add(self, name: str, image: EncodedImage, instances: list[KeptObject]) -> None:
        width, height = read_header(image).size
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for instance in instances:
            x0, y0, x1, y1 = instance.box
            if not (x0 < x1 <= width and y0 < y1 <= height):
                raise DataError(f"box must lie inside the image of {width} x {height}: {name}.")
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": self.category_ids.setdefault(
                        instance.label, len(self.category_ids) + 1
                    ),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )

    def to_json(self) -> str:
        categories = [{"id": number, "name": name} for name, number in self.category_ids.items()]
        content = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }
        return json.dumps(content, ensure_ascii=False)
