"""The script that trains a codec: it learns from COCO files, the same way every time."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from palitune.codec.masks import MaskCodec
from palitune.records import mask_to_json

from support.toy_data import toy_mask

SCRIPT = Path(__file__).parents[2] / "scripts" / "build" / "mask_codec.py"
SIZE = (80, 60)


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    """Twelve images with a polygon, run lengths, compressed run lengths and a crowd each."""
    annotations = []
    for image in range(1, 13):
        box = (5, 5, 30 + image, 40)
        mask = toy_mask(SIZE, box)
        flat = np.flatnonzero(np.diff(mask.flatten(order="F"), prepend=0, append=0)).tolist()
        lengths = np.diff([0, *flat, mask.size]).tolist()
        outlines = [
            [[10, 10, 50, 12, 45 + image, 50, 12, 40]],
            {"size": [60, 80], "counts": lengths},
            mask_to_json(mask),
        ]
        for outline, (x0, y0, x1, y1) in zip(outlines, [(10, 10, 70, 50), box, box], strict=True):
            bbox = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({"image_id": image, "segmentation": outline, "bbox": bbox})
        annotations.append(annotations[-1] | {"iscrowd": 1})
    sizes = {"width": SIZE[0], "height": SIZE[1]}
    images = [{"id": image} | sizes for image in range(1, 13)]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return file


def test_a_codec_is_trained_the_same_way_every_time(
    instances: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def train(output: Path, *more: str) -> None:
        told = ["--instances", str(instances), "--output", str(output), "--steps", "4"]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *told, "--batch-size", "4", *more])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    first, second, other = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))
    train(first)
    said = capsys.readouterr().out
    assert said.startswith("30 masks to learn from, 6 held out\n")  # every tenth image is held out
    assert "held-out IoU of the rounded codec: 0." in said
    train(second)
    train(other, "--seed", "1")
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert MaskCodec.load(first).decode(np.zeros((1, 16))).shape == (1, 64, 64)
