"""Benchmarks of words in photographs: descriptions of their official files, one per image.

A line of ICDAR 2015 is `x0,y0,x1,y1,x2,y2,x3,y3,word`; a line of Total-Text is
`x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'WORD']`. The box of a word encloses
its outline. An illegible word is `###`; in Total-Text it is `#` or missing.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from palitune.data.benchmarks.layout import BenchmarkSpec, Record, RecordReaderFn, SplitFile
from palitune.data.sources.validation import utf8_lines
from palitune.errors import DataError
from palitune.records import Instance, Size

Outline = list[tuple[float, float]]

_TOTAL_TEXT_PATTERN = re.compile(
    r"\s*x: \[\[(?P<x>[^\]]*)\]\],\s*y: \[\[(?P<y>[^\]]*)\]\],\s*ornt: \[[^\]]*\],\s*"
    r"transcriptions: \[(?P<words>.*?)\]\s*(?=x: |\Z)",
    re.DOTALL,
)
_QUOTED = re.compile(r"\s*u?(['\"])(?P<word>.*)\1\s*", re.DOTALL)
_ILLEGIBLE = "###"

NumberedWord = tuple[int, str, Outline]
"""Line in the file, word and outline."""


def _parse_icdar(text: str) -> Iterator[NumberedWord]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                cells = line.split(",", 8)
                numbers = [float(cell) for cell in cells[:8]]
                yield number, cells[8], list(zip(numbers[::2], numbers[1::2], strict=True))
            except (ValueError, IndexError) as error:
                raise _ParseError(number, error) from error


def _parse_total_text(text: str) -> Iterator[NumberedWord]:
    """Parse the words of an image; long outlines continue in the next line."""
    position = 0
    while text[position:].strip():
        number = text.count("\n", 0, len(text) - len(text[position:].lstrip())) + 1
        match = _TOTAL_TEXT_PATTERN.match(text, position)
        try:
            if match is None:
                raise ValueError("not x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]")
            xs, ys = ([float(number) for number in match[axis].split()] for axis in "xy")
            outline = list(zip(xs, ys, strict=True))
        except ValueError as error:
            raise _ParseError(number, error) from error
        quoted = _QUOTED.fullmatch(match["words"])
        word = quoted["word"] if quoted else match["words"].strip()
        yield number, _ILLEGIBLE if word in ("", "#") else word, outline
        position = match.end()


class _ParseError(ValueError):
    """A line that is no outline with a word."""

    def __init__(self, line: int, cause: Exception) -> None:
        super().__init__(str(cause))
        self.line = line


def _word_folder_reader(parse: Callable[[str], Iterator[NumberedWord]]) -> RecordReaderFn:
    """Return a reader of a folder with a text file per image, named like the image."""

    def read(folder: Path) -> Iterator[Record]:
        for file in sorted(folder.glob("*.txt")):
            text = "\n".join(utf8_lines(file.read_bytes(), file))
            try:
                words = [(word, outline) for _, word, outline in parse(text) if outline]
            except _ParseError as error:
                raise DataError(
                    f"{file}:{error.line}: line must be an outline and a word ({error}). "
                    "Download the file again."
                ) from error
            yield {"key": file.stem.removeprefix("poly_").removeprefix("gt_"), "words": words}

    return read


def _word_instances(record: Record, image: str, size: Size) -> Iterator[Instance]:
    """Return the words with the boxes around their outlines, clipped to the image."""
    for word, outline in record["words"]:
        xs, ys = (
            [min(max(coordinate, 0.0), float(side)) for coordinate in axis]
            for axis, side in zip(zip(*outline, strict=True), size, strict=True)
        )
        if min(xs) < max(xs) and min(ys) < max(ys):
            yield Instance(word, (min(xs), min(ys), max(xs), max(ys)))


SCENE_TEXT_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "icdar15": BenchmarkSpec(
        homepage='"Incidental Scene Text", task 4, at rrc.cvc.uab.es, with a free account',
        splits={
            "train": (
                SplitFile(
                    name="ch4_training_localization_transcription_gt",
                    metadata={"folder": "ch4_training_images"},
                ),
            ),
            "test": (
                SplitFile(name="Challenge4_Test_Task*_GT", metadata={"folder": "ch4_test_images"}),
            ),
        },
        read=_word_folder_reader(_parse_icdar),
        images=["{folder}/{key}.jpg"],
        id="{key}",
        make_instances=_word_instances,
    ),
    "total_text": BenchmarkSpec(
        homepage="github.com/cs-chan/Total-Text-Dataset (Groundtruth/Polygon, Images)",
        splits={
            split: (
                SplitFile(
                    name=f"Groundtruth/Polygon/{folder}",
                    alternatives=(
                        f"txt_format/{folder}",
                        f"Groundtruth/Polygon/txt_format/{folder}",
                        f"Groundtruth/Text/Legacy/txt_format/{folder}",
                    ),
                    metadata={"folder": folder},
                ),
            )
            for split, folder in {"train": "Train", "test": "Test"}.items()
        },
        read=_word_folder_reader(_parse_total_text),
        images=["Images/{folder}/{key}.jpg"],
        id="{key}",
        make_instances=_word_instances,
    ),
}
