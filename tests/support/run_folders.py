"""Generated run folders with images, curves and scores, and malformed and hostile texts."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HOSTILE = '<script>alert(1)</script> & "quotes" <img src=http://evil.example/x.png>'
CONFIG = """\
defaults:
- override /data: handwriting
- override /model: tiny
- override /adapter: lora
model:
  resolution: 112
task:
  metrics: [exact_match, detection]
adapter:
  rank: 16
  alpha: 32.0
data:
  path: <b>pages</b>
"""
LABELS = ("boat", "buoy", "gull", "pier")


def make_run(folder: Path, count: int) -> Path:
    """Write a run folder with `count` examples in each of the parts ocr and detection."""
    rng = random.Random(3)
    images = folder / "images"
    images.mkdir(parents=True)
    rows = [_ocr_record(images, index, rng) for index in range(count)]
    rows += [_detection_record(images, index, rng) for index in range(count)]
    for name, key in (("predictions.jsonl", "after"), ("predictions_before.jsonl", "before")):
        lines = [json.dumps(row["example"] | row[key]) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n")
    history = "".join(json.dumps(record) + "\n" for record in _history(rng))
    (folder / "history.jsonl").write_text(history)
    (folder / "metrics.json").write_text(json.dumps(_metrics(count)))
    (folder / "config.yaml").write_text(CONFIG)
    data = {"test": {"ocr": "9f86d081884c7d65", "detection": "60303ae22b998861"}}
    environment = {
        "data": data,
        "python": "3.11.2",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "device": "cpu",
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "skipped.txt").write_text("pages.jsonl:17: image missing.png does not exist\n")
    return folder


def _ocr_record(images: Path, index: int, rng: random.Random) -> dict[str, Any]:
    text = "".join(str(rng.randrange(10)) for _ in range(rng.randint(1, 3)))
    page = Image.new("RGB", (112, 112), (rng.randint(215, 255),) * 3)
    for index_of_digit, digit in enumerate(text):
        position = (8 + 35 * index_of_digit, rng.choice((8, 60)))
        ImageDraw.Draw(page).text(
            position, digit, fill=(30, 30, 40), font=ImageFont.load_default(38)
        )
    path = images / f"page-{index:03d}.png"
    page.save(path)
    after = text if rng.random() < 0.6 else text[:-1] + str(rng.randrange(10))
    before = "".join(str(rng.randrange(10)) for _ in text) if rng.random() < 0.8 else text
    if index == 1:
        after = HOSTILE
    example = {"suffixes": [text]} | _example_fields(
        f"page-{index:03d}", "ocr", path, (112, 112), "ocr", [text]
    )
    return {
        "example": example,
        "after": _prediction_fields(after, after, {"exact_match": float(after == text)}),
        "before": _prediction_fields(before, before, {"exact_match": float(before == text)}),
    }


def _detection_record(images: Path, index: int, rng: random.Random) -> dict[str, Any]:
    size = (640, 480)
    scene = Image.linear_gradient("L").resize(size).point(lambda level: 90 + level // 3)
    scene = Image.merge("RGB", (scene.point(lambda v: v // 2), scene, Image.new("L", size, 200)))
    reference = []
    for _ in range(rng.randint(1, 4)):
        x, y = rng.randint(0, 480), rng.randint(60, 380)
        box = [x, y, x + rng.randint(50, 160), y + rng.randint(30, 100)]
        label = rng.choice(LABELS)
        fill = tuple(rng.randint(40, 220) for _ in range(3))
        ImageDraw.Draw(scene).ellipse(box, fill=fill, outline="white")
        reference.append({"label": label, "box": box})
    path = images / f"scene-{index:03d}.jpg"
    if index != 2:  # the third image is missing
        scene.save(path)
    predicted = [_jitter_instance(box, 6, rng) for box in reference if rng.random() < 0.85]
    predicted_before = [_jitter_instance(box, 60, rng) for box in reference if rng.random() < 0.5]
    example = _example_fields(
        f"scene-{index:03d}", "detection", path, size, "detect boat ; buoy ; gull", reference
    )
    f1 = 2 * len(predicted) / (len(predicted) + len(reference))
    after = _prediction_fields(
        "<loc0100><loc0200><loc0300><loc0400> boat", predicted, {"f1@.5": f1}
    )
    before = _prediction_fields(
        "<loc0100><loc0200>", predicted_before, {"f1@.5": 0.1 * len(predicted_before)}
    )
    if index % 7 == 1:
        after = _prediction_fields("<loc0001> ; \u202e boat\x00 " + HOSTILE, None, {"f1@.5": 0.0})
    return {"example": example, "after": after, "before": before}


def _jitter_instance(instance: dict[str, Any], pixels: int, rng: random.Random) -> dict[str, Any]:
    x0, y0, x1, y1 = (s + rng.uniform(-pixels / 2, pixels / 2) for s in instance["box"])
    box = [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]
    label = instance["label"] if rng.random() < 0.8 else rng.choice(LABELS)
    return {"label": label, "box": box, "score": round(rng.uniform(0.4, 0.99), 3)}


def _example_fields(
    name: str, part: str, path: Path, size: tuple[int, int], prefix: str, reference: list[Any]
) -> dict[str, Any]:
    return {
        "id": name,
        "part": part,
        "images": [str(path)],
        "size": list(size),
        "prefix": prefix,
        "reference": reference,
    }


def _prediction_fields(text: str, prediction: Any, scores: dict[str, float]) -> dict[str, Any]:
    malformed = prediction is None
    return {"text": text, "prediction": prediction, "scores": scores, "malformed": malformed}


def _history(rng: random.Random) -> list[dict[str, float]]:
    records: list[dict[str, float]] = []
    for step in range(10, 1001, 10):
        loss = 2.6 * math.exp(-step / 220) + 0.18 + rng.uniform(-0.08, 0.08)
        rate = 2e-4 * min(1.0, step / 50) * 0.5 * (1 + math.cos(math.pi * step / 1000))
        records.append({"step": step, "epoch": step / 250, "loss": loss, "learning_rate": rate})
        if step % 125 < 10:
            progress = 1 - math.exp(-step / 300)
            records.append(
                {
                    "step": step,
                    "validation/ocr/exact_match": 0.62 * progress,
                    "validation/detection/f1@.5": 0.1 + 0.7 * progress,
                    "validation/detection/AP50": 0.05 + 0.6 * progress,
                    "validation/detection/AP": 0.02 + 0.4 * progress,
                    "validation/detection/APs": math.nan,
                }
            )
    return records


def _metrics(count: int) -> dict[str, Any]:
    before = {"ocr/exact_match": 0.1234, "ocr/character_error_rate": 0.71, "ocr/malformed": 0.0}
    after = {"ocr/exact_match": 0.6543, "ocr/character_error_rate": 0.14, "ocr/malformed": 0.0}
    coco = {"AP": 0.41, "AP50": 0.66, "AP75": 0.38, "APs": math.nan, "AR100": 0.52, "f1@.5": 0.7777}
    before |= {f"detection/{name}": value * 0.2 for name, value in coco.items()}
    after |= {f"detection/{name}": value for name, value in coco.items()}
    before |= {"detection/malformed": 0.4, "detection/unfinished": 0.1}
    after |= {"detection/malformed": 0.05, "detection/unfinished": 0.1}
    change = {name: after[name] - before[name] for name in after}
    intervals = {
        "before": {name: [value * 0.9, value * 1.1] for name, value in before.items()},
        "after": {name: [value * 0.96, value * 1.03] for name, value in after.items()},
        "difference": {name: [value - 0.031, value + 0.033] for name, value in change.items()},
    }
    factors = {"1": 0.9, "2": 0.7, "3": 0.412}
    slices = {
        side: {
            "ocr": {
                "digits": {k: {"examples": 7, "exact_match": v * f} for k, v in factors.items()}
            }
        }
        for side, f in (("before", 0.5), ("after", 1.0))
    }
    examples = {"ocr": count, "detection": count}
    return {
        "split": "test",
        "examples": examples,
        "before": before,
        "after": after,
        "intervals": intervals,
        "slices": slices,
    }


def make_noisy_run(folder: Path, count: int) -> Path:
    """Write a run folder of `count` examples with boxes on incompressible images."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (10, 150, 200, 3), np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    text = "<loc0100><loc0200><loc0300><loc0400> boat ; " * 20
    boxes = [{"label": "boat", "box": [9, 9, 90, 90]}]
    lines: list[str] = []
    for index in range(count):
        example = _example_fields(
            str(index), "boats", folder / f"{index % 10}.png", (200, 150), "detect boat", boxes
        )
        scores = {"f1@.5": index / count}
        lines.append(
            json.dumps(example | _prediction_fields(text, boxes, scores) | {"suffixes": [text]})
        )
    for name in ("predictions.jsonl", "predictions_before.jsonl"):
        (folder / name).write_text("\n".join(lines))
    metrics = {"split": "test", "examples": {"boats": count}, "before": None, "after": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"after": {"boats/f1@.5": 0.5}}))
    return folder


def make_small_run(
    folder: Path, part: str, records: list[dict[str, Any]], metrics: dict[str, float | None]
) -> Path:
    """Write the run folder of an evaluation of one part, with a record per example."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": str(index), "part": part, "images": [], "size": [1, 1], "prefix": part, "scores": {}}
        | record
        for index, record in enumerate(records)
    ]
    lines = "".join(json.dumps(record) + "\n" for record in rows)
    (folder / "predictions.jsonl").write_text(lines)
    content = {
        "split": "test",
        "examples": {part: len(records)},
        "before": None,
        "after": {f"{part}/{name}": value for name, value in metrics.items()},
    }
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder
