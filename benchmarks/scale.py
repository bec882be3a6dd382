"""Benchmark of large data sets: CPU time and memory of whole commands on generated data.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --check --before ../earlier/src --output scale

The data are a JSON Lines file of a million questions about 100,000 images, a COCO file of 200,000
images with a million boxes, and 20,000 stored detection answers. Every line is one command with the
embedded tiny model in a process of its own; its CPU time includes imports, loading the model and
one training step. The memory is the peak of anonymous memory: pages of files that are only mapped
are not counted. `--before` runs every command also with the source tree of another version, one
directly after the other. `--quick` uses a thousandth of the data; `--only` chooses commands.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from harness.options import build_parser

SOURCE = Path(__file__).parents[1] / "src"
JSONL_ROWS, JSONL_IMAGES, COCO_IMAGES, COCO_BOXES = 1_000_000, 100_000, 200_000, 1_000_000
ANSWERS = 20_000
QUICK_DIVISOR = 1000
IMAGE_SIZE = (64, 48)
CLASSES = 80
LINKS_PER_FILE = 10_000
"""Hard links to one image file; file systems allow 32,000 or more."""
MAX_GIB = 1.0

SHORT_RUN = [
    "model=tiny", "training.max_steps=1", "training.global_batch_size=4",
    "training.micro_batch_size=4", "training.num_workers=0", "training.self_check=false",
    "evaluate_before=false", "evaluation.max_samples=1", "evaluation.num_workers=0",
    "evaluation.split=test", "evaluation.bootstrap_samples=0", "output_dir=out/finetune",
]  # fmt: skip
VQA = ["task=vqa", "data=jsonl", "data.path=jsonl"]
BOXES = ["task=detection", "task.prompt_classes=present", "data=coco", "data.path=coco"]


@dataclass(frozen=True)
class Case:
    """One command with its limits."""

    name: str
    command: list[str]
    limit: float
    """CPU seconds."""
    keeps_cache: bool = False
    """Whether the example cache of the previous command is used."""


CASES = {
    "jsonl_first": Case(
        "JSONL, a million rows: first step", ["finetune", *VQA, *SHORT_RUN], limit=60
    ),
    "jsonl_cached": Case(
        "the same from the cache", ["finetune", *VQA, *SHORT_RUN], limit=10, keeps_cache=True
    ),
    "jsonl_inspect": Case(
        "JSONL, a million rows: inspect",
        ["inspect", *VQA, "model=tiny", "splits=[train]", "output_dir=out/inspect"],
        limit=60,
    ),
    "coco_first": Case(
        "COCO, 200,000 images, a million boxes: first step",
        ["finetune", *BOXES, *SHORT_RUN],
        limit=60,
    ),
    "coco_cached": Case(
        "the same from the cache", ["finetune", *BOXES, *SHORT_RUN], limit=15, keeps_cache=True
    ),
    "coco_inspect": Case(
        "COCO, 200,000 images, a million boxes: inspect",
        ["inspect", *BOXES, "model=tiny", "splits=[train]", "output_dir=out/inspect"],
        limit=60,
    ),
    "answers": Case(
        "20,000 stored detection answers judged",
        ["evaluate", *BOXES, "model=tiny", "evaluation.split=validation",
         "predictions=answers.jsonl", "output_dir=out/answers"],
        limit=25,
    ),
}  # fmt: skip


@dataclass
class Measurement:
    """CPU time and memory of one command."""

    cpu_seconds: float
    gib: float
    """Peak of anonymous memory."""


@dataclass
class Line:
    """One line of the table."""

    name: str
    limit: float
    now: Measurement
    before: Measurement | None

    @property
    def is_over_limit(self) -> bool:
        return self.now.cpu_seconds > self.limit or self.now.gib > MAX_GIB


def main() -> int:
    parser = build_parser(__doc__, rounds=1, devices=False, quick="use a thousandth of the data")
    parser.add_argument("--before", type=Path, help="source tree (src) of another version")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--folder", type=Path, help="keep the generated data here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        write_data(folder, QUICK_DIVISOR if args.quick else 1)
        lines = [measure_case(name, folder, args.before, args.rounds) for name in args.only]
    return finish(lines, args)


def measure_case(name: str, folder: Path, before: Path | None, rounds: int) -> Line:
    """Run a command with this version and, if given, with the other one."""
    case = CASES[name]
    now, other = [], []
    for _ in range(rounds):
        if before is not None:
            other.append(measure(case, folder, before.resolve(), "cache_before"))
        now.append(measure(case, folder, SOURCE, "cache"))
    return Line(case.name, case.limit, summarize(now), summarize(other) if other else None)


def summarize(rounds: list[Measurement]) -> Measurement:
    """Return the median of the CPU times and the largest memory."""
    return Measurement(
        statistics.median(one.cpu_seconds for one in rounds), max(one.gib for one in rounds)
    )


def measure(case: Case, folder: Path, source: Path, cache: str) -> Measurement:
    """Run a command in a process of its own. Raises RuntimeError if it fails."""
    for stale in [folder / "out"] + [folder / cache] * (not case.keeps_cache):
        shutil.rmtree(stale, ignore_errors=True)
    variables = {"PYTHONPATH": str(source), "PALITUNE_CACHE": str(folder / cache)}
    command = [sys.executable, "-m", "palitune", *case.command]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=log, stderr=log
        )
        peak = PeakMemory(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = (folder / "log.txt").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{case.name}: exit code {process.returncode}\n{tail}")
    return Measurement(usage.ru_utime + usage.ru_stime, peak.stop() / 2**20)


class PeakMemory:
    """Peak anonymous memory of a process in KiB, read every 50 ms."""

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.peak = 0
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def stop(self) -> int:
        self.thread.join()
        return self.peak

    def _watch(self) -> None:
        while True:
            try:
                lines = self.status.read_text().splitlines()
            except OSError:
                return
            kib = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
            if not kib:  # the process has ended
                return
            self.peak = max(self.peak, kib[0])
            time.sleep(0.05)


def write_data(folder: Path, divisor: int) -> None:
    """Write the data of all commands unless they exist."""
    if (folder / "complete").exists():
        return
    rng = random.Random(0)
    write_jsonl(folder / "jsonl", JSONL_ROWS // divisor, JSONL_IMAGES // divisor, rng)
    (folder / "coco" / "annotations").mkdir(parents=True)
    write_coco(folder / "coco", "train", COCO_IMAGES // divisor, COCO_BOXES // divisor, rng)
    answers = write_coco(folder / "coco", "validation", ANSWERS // divisor, 0, rng)
    write_coco(folder / "coco", "test", 4, 0, rng)
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in answers))
    (folder / "complete").touch()


def write_jsonl(folder: Path, rows: int, images: int, rng: random.Random) -> None:
    """Write questions with an id, one to three answers, and their images."""
    names = write_images(folder / "images", images)
    for split, count in (("train", rows), ("test", 4)):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(count):
                row = {
                    "id": number,
                    "image": f"images/{names[number % len(names)]}",
                    "question": f"How many of the {rng.randrange(100)} are left?",
                    "answers": [str(rng.randrange(1000)) for _ in range(rng.randint(1, 3))],
                }
                file.write(json.dumps(row) + "\n")


def write_coco(
    folder: Path, split: str, images: int, boxes: int, rng: random.Random
) -> list[dict[str, object]]:
    """Write a COCO file with its images; return an answer per image, with some boxes moved.

    `boxes` is the number of all boxes; 0: five per image.
    """
    names = write_images(folder / split, images)
    total = boxes or 5 * images
    annotations, answers = [], [list[str]() for _ in range(images)]
    for number in range(total):
        x, y = rng.randrange(40), rng.randrange(30)
        box = [x, y, rng.randint(4, 64 - x), rng.randint(4, 48 - y)]
        image, category = number % images, rng.randint(1, CLASSES)
        annotations.append(
            {"id": number, "image_id": image, "category_id": category, "bbox": box,
             "area": box[2] * box[3], "iscrowd": 0}
        )  # fmt: skip
        corners = [y, x, y + box[3] - rng.randint(0, 3), x + box[2] - rng.randint(0, 3)]
        locations = [round(c / side * 1023) for c, side in zip(corners, (48, 64) * 2, strict=True)]
        answers[image].append("".join(f"<loc{v:04d}>" for v in locations) + f" {category}")
    content = {
        "images": [
            {"id": n, "file_name": name, "width": IMAGE_SIZE[0], "height": IMAGE_SIZE[1]}
            for n, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": str(n)} for n in range(1, CLASSES + 1)],
    }
    file = folder / "annotations" / f"instances_{split}.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return [{"id": str(n), "text": " ; ".join(texts)} for n, texts in enumerate(answers)]


def write_images(folder: Path, count: int) -> list[str]:
    """Write images as hard links to a few files and return their names."""
    folder.mkdir(parents=True)
    names = [f"{number:012d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        if number % LINKS_PER_FILE == 0:
            original = folder / name
            image = Image.new("RGB", IMAGE_SIZE, "white")
            ImageDraw.Draw(image).rectangle((8, 6, 20 + number % 30, 30), fill="red")
            image.save(original)
        else:
            os.link(original, folder / name)
    return names


def finish(lines: list[Line], args: argparse.Namespace) -> int:
    """Print and write the table; return 1 with --check if a limit was exceeded."""
    head = "| line | before | now | limit |\n|---|---|---|---|"
    table = "\n".join([head, *map(_format_line, lines)])
    print(table)
    if args.output is not None:
        args.output.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
        content = [asdict(line) for line in lines]
        args.output.with_suffix(".json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    over = [line.name for line in lines if line.is_over_limit]
    for name in over:
        print(f"over the limit: {name}")
    return int(args.check and bool(over))


def _format_line(line: Line) -> str:
    before = "" if line.before is None else _format(line.before)
    verdict = " **(over)**" if line.is_over_limit else ""
    return (
        f"| {line.name} | {before} | {_format(line.now)}{verdict} | "
        f"{line.limit:g} s, {MAX_GIB:g} GiB |"
    )


def _format(measured: Measurement) -> str:
    return f"{measured.cpu_seconds:.1f} s, {measured.gib:.2f} GiB"


if __name__ == "__main__":
    sys.exit(main())
