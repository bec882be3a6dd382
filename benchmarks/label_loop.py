"""Demonstration of the labeling loop: images chosen by `rank` against images chosen by chance.

    OMP_NUM_THREADS=1 python benchmarks/label_loop.py --work label-loop

The tiny model learns to read handwriting from three rounds of 40 labeled pages. The first 40 pages
are chosen by chance, and those of the other rounds by `palitune predict rank=...` with the adapter
of the round before, or by chance. Each line of the table is the mean exact match on 360 test pages
over the seeds, with the 95 % interval of Student's t. Finished rounds are kept in the work folder,
so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from palitune import __main__ as program
from palitune.data.sources.embedded import Handwriting

ROUNDS, IMAGES_PER_ROUND = 3, 40
POOL_SIZE = 400
CHANCE = "chance"
_T_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantiles of Student's t by number of seeds."""
_TRAINING = (
    "task=ocr",
    "task.max_new_tokens=8",
    "model=tiny",
    "adapter=lora",
    "adapter.rank=16",
    "adapter.targets=[language,vision,projector]",
    "training.learning_rate=5e-3",
    "training.global_batch_size=20",
    "training.micro_batch_size=20",
    "training.num_workers=0",
    "evaluation.num_workers=0",
    "evaluation.batch_size=60",
    "evaluation.bootstrap_samples=0",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("label-loop"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120, help="training steps of each round")
    parser.add_argument("--rank", default="both", choices=("uncertainty", "diversity", "both"))
    args = parser.parse_args()
    scores: dict[str, list[list[float]]] = {args.rank: [], CHANCE: []}
    for seed in range(args.seeds):
        for way, rows in scores.items():
            rows.append(run_loop(args.work, way, seed, args.steps))
            print(json.dumps({"seed": seed, "way": way, "exact_match": rows[-1]}), flush=True)
    print_table(scores)
    return 0


def run_loop(work: Path, way: str, seed: int, steps: int) -> list[float]:
    """Return the exact match after each round; `way`: a value of `rank`, or chance."""
    rng = random.Random(seed)
    rows = {row["image"].split("/")[-1]: row for row in _read_rows("train")}
    pool = rng.sample(sorted(rows), POOL_SIZE)
    labeled = pool[:IMAGES_PER_ROUND]
    scores = []
    for number in range(1, ROUNDS + 1):
        folder = work / f"seed-{seed}" / (way if number > 1 else "first") / f"round-{number}"
        scores.append(train(folder, [rows[name] for name in labeled], seed, steps))
        rest = [name for name in pool if name not in labeled]
        if number == ROUNDS:
            break
        chosen = rng.sample(rest, IMAGES_PER_ROUND) if way == CHANCE else rank(folder, rest, way)
        labeled = [*labeled, *chosen]
    return scores


def train(folder: Path, rows: Sequence[dict[str, str]], seed: int, steps: int) -> float:
    """Train on the labeled pages and return the exact match on the test pages."""
    metrics = folder / "run" / "metrics.json"
    if not metrics.exists():
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        for split, lines in (("train", rows), ("test", _read_rows("test"))):
            text = "".join(json.dumps(row) + "\n" for row in lines)
            (data / f"{split}.jsonl").write_text(text, encoding="utf-8")
        run_program(
            "finetune",
            "data=jsonl",
            f"data.path={data}",
            *_TRAINING,
            f"training.max_steps={steps}",
            f"seed={seed}",
            f"output_dir={folder / 'run'}",
            "overwrite=true",
        )
    after: dict[str, float] = json.loads(metrics.read_text(encoding="utf-8"))["after"]
    return next(value for name, value in after.items() if name.endswith("exact_match"))


def rank(folder: Path, names: Sequence[str], way: str) -> list[str]:
    """Return the images of the pool that `palitune predict rank=...` puts first."""
    images, output = folder / "unlabeled", folder / f"ranked-{way}"
    if not (output / "to_label.csv").exists():
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        for name in names:
            shutil.copy(Handwriting().resolved_path() / "images" / name, images)
        run_program(
            "predict",
            f"images={images}",
            "task=ocr",
            "task.max_new_tokens=8",
            "model=tiny",
            f"adapter.path={folder / 'run' / 'adapter'}",
            f"rank={way}",
            f"rank_count={IMAGES_PER_ROUND}",
            "max_shown=0",
            "evaluation.num_workers=0",
            "evaluation.batch_size=60",
            f"output_dir={output}",
            "overwrite=true",
        )
    with (output / "to_label.csv").open(encoding="utf-8", newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


def run_program(*arguments: str) -> None:
    if code := program.run(list(arguments)):
        raise SystemExit(f"palitune {arguments[0]} ended with exit code {code}")


def print_table(scores: dict[str, list[list[float]]]) -> None:
    print(f"{'labeled pages':>14}" + "".join(f"{way:>22}" for way in scores))
    for number in range(ROUNDS):
        cells = "".join(
            f"{_mean_and_interval([row[number] for row in rows]):>22}" for rows in scores.values()
        )
        print(f"{(number + 1) * IMAGES_PER_ROUND:>14}{cells}")
    ranked, chance = scores.values()
    pairs = [a[-1] - b[-1] for a, b in zip(ranked, chance, strict=True)]
    print(f"difference after the last round: {_mean_and_interval(pairs)}")


def _mean_and_interval(values: Sequence[float]) -> str:
    if len(values) not in _T_QUANTILES:
        return f"{fmean(values):.3f}"
    margin = _T_QUANTILES[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.3f} ± {margin:.3f}"


def _read_rows(split: str) -> list[dict[str, str]]:
    folder = Handwriting().resolved_path()
    lines = (folder / f"{split}_ocr.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{**row, "image": str(folder / row["image"])} for row in rows]


if __name__ == "__main__":
    raise SystemExit(main())
