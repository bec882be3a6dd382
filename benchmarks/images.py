"""Benchmark of image loading, compared with the Hugging Face processor: from file to pixels.

    OMP_NUM_THREADS=1 python benchmarks/images.py --check --output benchmarks/images

The other side is the SigLIP processor that uses Pillow, with float32 output; ours is the work of a
data loader worker, with uint8 output, because the rest is done on the model's device. Both sides
open and decode generated files of common sizes, one after another. A line is the geometric mean
over these files. Before the timing, `exact` must equal the processor bit by bit, and `fast` must be
within 2/255. `--quick` runs one round on small images, whose ratios are meaningless.
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
from palitune.data.images.resize import ResizeBackend
from palitune.data.images.transforms import IDENTITY_TRANSFORM
from palitune.models.paligemma import normalize_pixels

from harness.options import build_parser
from harness.paired_timing import (
    BenchmarkRow,
    Times,
    finish,
    mismatch_row,
    summarize,
    time_alternating,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.test_images import photo, text_page
from support.tiny_models import build_processor

GOALS = {
    ResizeBackend.exact: {224: 1.5, 448: 1.8, 896: 2.4},
    ResizeBackend.fast: {224: 2.5, 448: 3.0, 896: 3.5},
}
MAX_PIXEL_ERROR = 2.001
"""Largest difference of pixels, of 255 levels, with a margin for rounding."""
CPU_CLOCK, WALL_CLOCK = 0, 1

processor = cache(build_processor)

Pixels = Callable[[Path], torch.Tensor]
Draw = Callable[[int, int], Image.Image]
FILES: tuple[tuple[str, Draw, tuple[int, int]], ...] = (
    ("photo_640x480.jpg", photo, (640, 480)),
    ("photo_640x480.png", photo, (640, 480)),
    ("scan_1700x2200.jpg", text_page, (1700, 2200)),
    ("scan_1700x2200.png", text_page, (1700, 2200)),
    ("photo_4000x3000.jpg", photo, (4000, 3000)),
)


def main() -> int:
    args = build_parser(
        __doc__, rounds=9, devices=False, quick="run one round on small images"
    ).parse_args()
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as name:
        files = save_files(Path(name), shrink=10 if args.quick else 1)
        for images, goals in GOALS.items():
            for side, goal in goals.items():
                line = ResizeCase(images, side, goal)
                row, case_notes = line.measure(files, 1 if args.quick else args.rounds)
                rows.append(row)
                notes += case_notes
    return finish(rows, args.output, notes, check=args.check)


def save_files(folder: Path, shrink: int) -> list[Path]:
    """Write the files with common settings: JPEG of quality 90, PNG with Pillow's defaults."""
    for name, draw, size in FILES:
        draw(size[0] // shrink, size[1] // shrink).save(folder / name, quality=90)
    return [folder / name for name, _, _ in FILES]


@dataclass(frozen=True)
class ResizeCase:
    """Conversion of files to pixels of one size."""

    backend: ResizeBackend
    side: int
    goal: float

    def measure(self, files: list[Path], rounds: int) -> tuple[BenchmarkRow, list[str]]:
        """Check and time all files. Return the row of all files, and a note on each file."""
        ours, theirs = self.our_loader(), self.their_loader()
        name = f"{self.backend.value}, {self.side} px / HF's processor"
        for file in files:
            if error := self.pixel_mismatch(ours(file), theirs(file)):
                return mismatch_row(name, f"{file.name}: {error}", self.goal), []
        times = [
            [time_alternating(partial(ours, file), partial(theirs, file), number) for file in files]
            for number in range(rounds)
        ]
        cpu, wall = (
            [_geometric_means(of_files, clock) for of_files in times]
            for clock in (CPU_CLOCK, WALL_CLOCK)
        )
        row = summarize(name, "CPU s", cpu, self.goal)
        row.wall_ratio = statistics.median(other / mine for mine, other in wall)
        each = zip(files, zip(*times, strict=True), strict=True)
        return row, [
            self.format_note(file, [_geometric_means([one], CPU_CLOCK) for one in of_file])
            for file, of_file in each
        ]

    def our_loader(self) -> Pixels:
        collator = Collator(processor(), resize_backend=self.backend)
        collator.image_size = self.side, self.side
        return lambda file: torch.stack([collator.load_pixels(str(file), IDENTITY_TRANSFORM)])

    def their_loader(self) -> Pixels:
        stock = SiglipImageProcessorPil(size={"height": self.side, "width": self.side})
        return lambda file: stock(Image.open(file), return_tensors="pt")["pixel_values"]

    def pixel_mismatch(self, ours: torch.Tensor, theirs: torch.Tensor) -> str | None:
        """Return an error message if the pixels differ by more than allowed."""
        error = float((normalize_pixels(ours) - theirs).abs().max()) * 127.5
        allowed = 0 if self.backend is ResizeBackend.exact else MAX_PIXEL_ERROR
        return None if error <= allowed else f"pixels differ by {error:.2f}/255"

    def format_note(self, file: Path, pairs: list[tuple[float, float]]) -> str:
        row = summarize("", "", pairs, self.goal)
        return (
            f"{self.backend.value}, {self.side} px, {file.name}: {1 / row.theirs:.3g} and "
            f"{1 / row.ours:.3g} images per second of CPU, {row.ratio:.2f}x"
        )


def _geometric_means(times: Sequence[tuple[Times, Times]], clock: int) -> tuple[float, float]:
    """Return the geometric means of our and their times."""
    ours, theirs = zip(*times, strict=True)
    return tuple(statistics.geometric_mean(one[clock] for one in side) for side in (ours, theirs))


if __name__ == "__main__":
    sys.exit(main())
