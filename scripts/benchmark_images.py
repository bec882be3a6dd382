"""Count images per second beside the Hugging Face processor, from the file to the model's pixels.

    OMP_NUM_THREADS=1 python scripts/benchmark_images.py --check --output scripts/benchmarks/images

Theirs is the Pillow-backed SigLIP processor, float32 out; ours is what a worker does, uint8 out:
the rest is done on the model's device. Both open and decode generated files of usual sizes, one
after the other. A line is the geometric mean over these files: each counts the same. Before
anything is timed, `exact` has to give the processor's floats to the bit and `fast` pixels within
2/255 of them. `--quick` runs everything once on small pictures, whose ratios mean nothing.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from palitune.data.collator import Collator
from palitune.data.pixels import Images
from palitune.data.views import PLAIN
from palitune.models.prefix_lm import normalize

from benchmarks.options import parser
from benchmarks.side_by_side import Row, Times, finish, summary, turns, unequal

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from pictures import page, photo
from tiny_models import build_processor

GOALS = {
    Images.exact: {224: 1.5, 448: 1.8, 896: 2.4},
    Images.fast: {224: 2.5, 448: 3.0, 896: 3.5},
}
BOUND = 2.001
"""Of 255 levels, in floats."""
CPU, WALL = 0, 1

processor = cache(build_processor)

Pixels = Callable[[Path], torch.Tensor]
Draw = Callable[[int, int], Image.Image]
FILES: tuple[tuple[str, Draw, tuple[int, int]], ...] = (
    ("photo_640x480.jpg", photo, (640, 480)),
    ("photo_640x480.png", photo, (640, 480)),
    ("scan_1700x2200.jpg", page, (1700, 2200)),
    ("scan_1700x2200.png", page, (1700, 2200)),
    ("photo_4000x3000.jpg", photo, (4000, 3000)),
)


def main() -> int:
    told = parser(__doc__, rounds=9, devices=False, quick="small pictures, one round").parse_args()
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as name:
        files = save_files(Path(name), shrink=10 if told.quick else 1)
        for images, goals in GOALS.items():
            for side, goal in goals.items():
                line = Line(images, side, goal)
                row, said = line.measured(files, 1 if told.quick else told.rounds)
                rows.append(row)
                notes += said
    return finish(rows, told.output, notes, check=told.check)


def save_files(folder: Path, shrink: int) -> list[Path]:
    """Write the files, at usual settings: JPEG of quality 90, PNG as Pillow compresses it."""
    for name, draw, size in FILES:
        draw(size[0] // shrink, size[1] // shrink).save(folder / name, quality=90)
    return [folder / name for name, _, _ in FILES]


@dataclass(frozen=True)
class Line:
    """What is compared: files in, pixels of one size out."""

    images: Images
    side: int
    goal: float

    def measured(self, files: list[Path], rounds: int) -> tuple[Row, list[str]]:
        """Check and time all files; return the row over them, and a note on each."""
        ours, theirs = self.ours(), self.theirs()
        name = f"{self.images.value}, {self.side} px / HF's processor"
        for file in files:
            if fault := self.fault(ours(file), theirs(file)):
                return unequal(name, f"{file.name}: {fault}", self.goal), []
        times = [
            [turns(partial(ours, file), partial(theirs, file), number) for file in files]
            for number in range(rounds)
        ]
        cpu, wall = ([_mean(of_files, clock) for of_files in times] for clock in (CPU, WALL))
        row = summary(name, "CPU s", cpu, self.goal)
        row.wall_ratio = statistics.median(other / mine for mine, other in wall)
        each = zip(files, zip(*times, strict=True), strict=True)
        return row, [
            self.note(file, [_mean([one], CPU) for one in of_file]) for file, of_file in each
        ]

    def ours(self) -> Pixels:
        collator = Collator(processor(), images=self.images)
        collator.image_size = self.side, self.side
        return lambda file: torch.stack([collator.pixels(str(file), PLAIN)])

    def theirs(self) -> Pixels:
        stock = SiglipImageProcessorPil(size={"height": self.side, "width": self.side})
        return lambda file: stock(Image.open(file), return_tensors="pt")["pixel_values"]

    def fault(self, ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
        """Say by how much too much our pixels are others."""
        away = float((normalize(ours) - theirs).abs().max()) * 127.5
        allowed = 0 if self.images is Images.exact else BOUND
        return None if away <= allowed else f"pixels differ by {away:.2f}/255"

    def note(self, file: Path, pairs: list[tuple[float, float]]) -> str:
        row = summary("", "", pairs, self.goal)
        return (
            f"{self.images.value}, {self.side} px, {file.name}: {1 / row.theirs:.3g} and "
            f"{1 / row.ours:.3g} images per second of CPU, {row.ratio:.2f}x"
        )


def _mean(times: Sequence[tuple[Times, Times]], clock: int) -> tuple[float, float]:
    """Geometric means, ours and theirs."""
    ours, theirs = zip(*times, strict=True)
    return tuple(statistics.geometric_mean(one[clock] for one in side) for side in (ours, theirs))


if __name__ == "__main__":
    sys.exit(main())
