"""Cached masks are the same as those of the task, and depend on the codec."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from palitune.codec.mask_vqvae import MaskVQVAE
from palitune.data.dataset import load_split
from palitune.data.sources.base import Source
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks import Task
from palitune.tasks.detection import Detection
from palitune.tasks.referring_segmentation import ReferringSegmentation
from palitune.tasks.segmentation import Segmentation

from support.toy_data import toy_mask

SIZE = (60, 40)
BOX = (10, 5, 50, 30)
BOAT = Instance("boat", BOX, mask=toy_mask(SIZE, BOX))


@dataclass(kw_only=True)
class Drawn(Source):
    """One row, of an ellipse."""

    name: ClassVar[str] = "drawn"
    patterns: ClassVar[tuple[str, ...]] = ("{split}.txt",)

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        yield Row(
            id="1",
            images=(str(file.parent / "a.png"),),
            size=SIZE,
            location=f"{file}:1",
            question="the left boat",
            instances=(BOAT,),
            classes=("boat",),
        )


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drawn:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    (tmp_path / "train.txt").write_text("an ellipse")
    return Drawn(path=str(tmp_path))


def save_codec(file: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(dict(MaskVQVAE(8).state_dict()), file)
    return file


@pytest.mark.parametrize(
    "task",
    [Segmentation(), ReferringSegmentation(include_label=True), Detection()],
    ids=lambda t: t.name,
)
def test_cached_masks_equal_those_of_the_task(drawn: Drawn, task: Task) -> None:
    [row] = drawn.rows("train")
    assert isinstance(row, Row)
    [part] = load_split(drawn, task, "train")
    [example] = part.examples
    assert example.suffixes == task.example(row).suffixes
    assert example.reference == task.example(row).reference
    [instance] = example.reference
    assert isinstance(instance, Instance)
    assert instance.mask is not None


def test_a_replaced_codec_file_makes_new_examples(drawn: Drawn, tmp_path: Path) -> None:
    suffixes = set()
    for seed in (1, 2):
        file = save_codec(tmp_path / f"{seed}.safetensors", seed)
        file.replace(tmp_path / "codec.safetensors")
        [part] = load_split(drawn, Segmentation(codec=str(tmp_path / "codec.safetensors")), "train")
        suffixes.add(part.examples[0].suffixes)
    assert len(suffixes) == 2
