"""The official files of benchmarks that mark words in photographs: a text file per image.

ICDAR 2015 writes a word as `x0,y0,x1,y1,x2,y2,x3,y3,word`; Total-Text as
`x: [[1 2 3]], y: [[4 5 6]], ornt: [u'c'], transcriptions: [u'WORD']`. A word's box is that around
its outline. A word that nobody can read is `###`.
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
    r"x: \[\[(?P<x>[^\]]*)\]\], y: \[\[(?P<y>[^\]]*)\]\], ornt: \[u?'.'?'?\]?, "
    r"transcriptions: \[u?(?P<quote>['\"])(?P<word>.*)(?P=quote)\]"
)


def _parse_icdar(line: str) -> tuple[str, Outline]:
    cells = line.split(",", 8)
    numbers = [float(cell) for cell in cells[:8]]
    return cells[8], list(zip(numbers[::2], numbers[1::2], strict=True))


def _parse_total_text(line: str) -> tuple[str, Outline]:
    found = _TOTAL_TEXT_PATTERN.fullmatch(line.strip())
    if found is None:
        raise ValueError("not x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]")
    xs, ys = ([float(number) for number in found[axis].split()] for axis in "xy")
    word = "###" if found["word"] == "#" else found["word"]
    return word, list(zip(xs, ys, strict=True))


def _word_folder_reader(parse: Callable[[str], tuple[str, Outline]]) -> RecordReaderFn:
    """Read a folder with a text file per image, whose name follows from the file's."""

    def read(folder: Path) -> Iterator[Record]:
        for file in sorted(folder.glob("*.txt")):
            words = []
            for number, line in enumerate(utf8_lines(file.read_bytes(), file), 1):
                if line.strip():
                    try:
                        words.append(parse(line))
                    except (ValueError, IndexError) as mistake:
                        raise DataError(f"{file}:{number}: not a word ({mistake})") from mistake
            yield {"key": file.stem.removeprefix("poly_").removeprefix("gt_"), "words": words}

    return read


def _word_instances(record: Record, image: str, size: Size) -> Iterator[Instance]:
    """Return the words with the boxes around their outlines, cut to the image."""
    for word, outline in record["words"]:
        xs, ys = (
            [min(max(c, 0.0), float(side)) for c in axis] for axis, side in _axes(outline, size)
        )
        if min(xs) < max(xs) and min(ys) < max(ys):
            yield Instance(word, (min(xs), min(ys), max(xs), max(ys)))


def _axes(outline: Outline, size: Size) -> Iterator[tuple[tuple[float, ...], int]]:
    return zip(zip(*outline, strict=True), size, strict=True)


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
            "train": (SplitFile(name="Groundtruth/Polygon/Train", metadata={"folder": "Train"}),),
            "test": (SplitFile(name="Groundtruth/Polygon/Test", metadata={"folder": "Test"}),),
        },
        read=_word_folder_reader(_parse_total_text),
        images=["Images/{folder}/{key}.jpg"],
        id="{key}",
        make_instances=_word_instances,
    ),
}
