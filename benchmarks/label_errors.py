"""Demonstration of the search for label errors: planted faults among the first suspects.

    OMP_NUM_THREADS=1 python benchmarks/label_errors.py --work label-errors

In handwritten pages, 5 % of the boxes are removed, 5 % are moved by half to all of their size, and
5 % get another class. The tiny model trains on `train` with its faults, is evaluated on
`validation` with its faults, and `palitune inspect --run` ranks the suspects. The script prints how
many of the planted faults are among the first 50, and which share of the 50 is a planted fault. A
suspect counts if its predicted box has IoU .5 with the true box of a planted fault. Finished steps
are kept in the work folder, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from palitune import __main__ as program
from palitune.data.sources.embedded import copy_as_coco
from palitune.metrics.objects.matching import box_iou

SHARE = 0.05
"""Share of the boxes with a fault of each kind."""
KINDS = ("missing", "elsewhere", "class")
SHOWN = 50
_TRAINING = (
    "data=coco",
    "task=detection",
    "task.prompt_classes=all",
    "task.max_new_tokens=40",
    "model=tiny",
    "adapter=lora",
    "adapter.rank=16",
    "adapter.targets=[language.mlp,vision,projector]",
    "augmentation=document",
    "augmentation.degrees=7",
    "training.learning_rate=5e-3",
    "training.schedule=linear",
    "training.warmup_ratio=0.02",
    "training.adam_beta2=0.99",
    "training.global_batch_size=16",
    "training.micro_batch_size=16",
    "training.num_workers=0",
    "evaluation.split=validation",
    "evaluation.batch_size=50",
    "evaluation.num_workers=0",
    "evaluate_before=false",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("label-errors"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=900)
    args = parser.parse_args()
    recalls = []
    for seed in range(args.seeds):
        recalls.append(run(args.work / f"seed-{seed}", seed, args.steps))
    print(f"mean recall of {len(recalls)} seeds: {sum(recalls) / len(recalls):.2f}")
    return 0


def run(folder: Path, seed: int, steps: int) -> float:
    """Train, inspect and print the table of one seed; return the recall of the planted faults."""
    data, trained, inspected = folder / "data", folder / "run", folder / "inspect"
    if not (data / "planted.json").exists():
        copy_as_coco("handwriting", data)
        rng = random.Random(seed)
        plant(data / "annotations" / "instances_train.json", rng)
        planted = plant(data / "annotations" / "instances_validation.json", rng)
        (data / "planted.json").write_text(json.dumps(planted), encoding="utf-8")
    if not (trained / "metrics.json").exists():
        settings = (f"data.path={data}", f"training.max_steps={steps}", f"seed={seed}")
        run_program("finetune", *_TRAINING, *settings, f"output_dir={trained}", "overwrite=true")
    run_program("inspect", "--run", str(trained), f"output_dir={inspected}", "overwrite=true")
    planted = json.loads((data / "planted.json").read_text(encoding="utf-8"))
    with (inspected / "label_errors.csv").open(encoding="utf-8", newline="") as file:
        suspects = list(csv.DictReader(file))
    return print_table(planted, suspects)


def plant(file: Path, rng: random.Random) -> list[dict[str, Any]]:
    """Plant faults in an annotation file of COCO; return them with their true boxes."""
    content = json.loads(file.read_text(encoding="utf-8"))
    images = {image["id"]: image for image in content["images"]}
    annotations = content["annotations"]
    count = round(SHARE * len(annotations))
    chosen = rng.sample(range(len(annotations)), count * len(KINDS))
    removed, planted = set(), []
    for number, index in enumerate(chosen):
        entry, kind = annotations[index], KINDS[number % len(KINDS)]
        x, y, width, height = entry["bbox"]
        image = images[entry["image_id"]]
        planted.append(
            {"kind": kind, "image": image["file_name"], "box": [x, y, x + width, y + height]}
        )
        if kind == "missing":
            removed.add(index)
        elif kind == "class":
            others = [c["id"] for c in content["categories"] if c["id"] != entry["category_id"]]
            entry["category_id"] = rng.choice(others)
        else:
            entry["bbox"] = _moved(entry["bbox"], image, rng)
            entry.pop("segmentation", None)
            entry["area"] = width * height
    content["annotations"] = [a for i, a in enumerate(annotations) if i not in removed]
    file.write_text(json.dumps(content), encoding="utf-8")
    return planted


def _moved(bbox: list[float], image: dict[str, Any], rng: random.Random) -> list[float]:
    """Return a box of the same size, moved by half to all of it, inside the image."""
    x, y, width, height = bbox
    while True:
        new_x = x + rng.uniform(-1, 1) * width
        new_y = y + rng.uniform(-1, 1) * height
        far = abs(new_x - x) >= width / 2 or abs(new_y - y) >= height / 2
        inside = 0 <= new_x <= image["width"] - width and 0 <= new_y <= image["height"] - height
        if far and inside:
            return [new_x, new_y, width, height]


def print_table(planted: list[dict[str, Any]], suspects: list[dict[str, str]]) -> float:
    hits: list[int | None] = []
    for suspect in suspects[:SHOWN]:
        box = tuple(float(suspect[name]) for name in ("x0", "y0", "x1", "y1"))
        hits.append(
            next(
                (
                    index
                    for index, fault in enumerate(planted)
                    if Path(fault["image"]).name == Path(suspect["file"]).name
                    and box_iou(box, tuple(fault["box"])) >= 0.5
                ),
                None,
            )
        )
    found = {index for index in hits if index is not None}
    named = sum(
        suspect["kind"] == planted[index]["kind"]
        for suspect, index in zip(suspects[:SHOWN], hits, strict=True)
        if index is not None
    )
    totals = Counter(fault["kind"] for fault in planted)
    for kind in KINDS:
        of_kind = sum(planted[index]["kind"] == kind for index in found)
        print(f"{kind:>10}: {of_kind} of {totals[kind]} planted faults in the first {SHOWN}")
    recall = len(found) / len(planted)
    precision = sum(index is not None for index in hits) / max(1, len(hits))
    print(f"{len(suspects)} suspects; first {len(hits)}: recall {recall:.2f}, ", end="")
    print(f"precision {precision:.2f}, kind right in {named} of {len(found)}", flush=True)
    return recall


def run_program(*arguments: str) -> None:
    if code := program.run(list(arguments)):
        raise SystemExit(f"palitune {arguments[0]} ended with exit code {code}")


if __name__ == "__main__":
    raise SystemExit(main())
