"""The official files of benchmarks that have a notation read: tables, molecules, music.

See `layout` for what an entry means. Images are padded to squares with white, as in the transfers
of PaliGemma 2, at the right or below, which its report does not tell.
"""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.derived_images import pad_to_square
from palitune.data.benchmarks.layout import (
    SPLIT_NAMES,
    BenchmarkSpec,
    Record,
    SplitFile,
    in_one_file,
)
from palitune.records import Instance, Size

_CELL_START_TOKENS = ("<td>", ">")
"""Tokens after which the content of a cell begins."""
_MOLECULE_FILES = {
    "train": "uspto_mol/train_680k",
    "test": "synthetic/chemdraw",
    "indigo": "synthetic/indigo",
    **{name: f"real/{name}" for name in ("acs", "clef", "staker", "uob", "uspto")},
}


def _read_pubtabnet(file: Path) -> Iterator[Record]:
    """Read PubTabNet line by line, its HTML joined."""
    with file.open(encoding="utf-8") as content:
        for line in content:
            record = json.loads(line)
            cells = record["html"]["cells"]
            html = _join_html(record["html"]["structure"]["tokens"], [c["tokens"] for c in cells])
            boxes = {str(n): cell["bbox"] for n, cell in enumerate(cells) if "bbox" in cell}
            names = ("filename", "split", "imgid")
            yield {name: record[name] for name in names} | {"html": html, "boxes": boxes}


def _join_html(structure: list[str], cells: list[list[str]]) -> str:
    """Put what cells hold into the structure of a table; `<` and `&` in it are characters."""
    contents = iter(cells)
    written = ["<table>"]
    for token in structure:
        written.append(token)
        if token in _CELL_START_TOKENS:
            held = (part if len(part) > 1 else escape(part, quote=False) for part in next(contents))
            written.extend(held)
    return "".join([*written, "</table>"])


def _cell_instances(record: Record, _: str, size: Size) -> Iterator[Instance]:
    """Give the boxes of cells, cut to the image, each labelled with the number of its cell."""
    for number, (x0, y0, x1, y1) in record["boxes"].items():
        left, top = max(float(x0), 0.0), max(float(y0), 0.0)
        right, bottom = min(float(x1), float(size[0])), min(float(y1), float(size[1]))
        if left < right and top < bottom:
            yield Instance(number, (left, top, right, bottom))


def _read_grandstaff(folder: Path) -> Iterator[Record]:
    """Read GrandStaff's files; the test set is what is original, the rest is made of it."""
    for file in sorted(folder.rglob("*.krn")):
        yield {
            "key": file.relative_to(folder).with_suffix("").as_posix(),
            "split": "test" if file.name.startswith("original_") else "train",
            "kern": file.read_text(encoding="utf-8"),
        }


NOTATION_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "pubtabnet": BenchmarkSpec(
        homepage="github.com/ibm-aur-nlp/PubTabNet (pubtabnet.tar.gz)",
        splits=in_one_file("PubTabNet_2.0.0.jsonl", **SPLIT_NAMES),
        read=_read_pubtabnet,
        images=["{split}/{filename}"],
        id="{imgid}",
        text="html",
        make_instances=_cell_instances,
        transform_image=pad_to_square,
    ),
    "molecules": BenchmarkSpec(
        homepage="github.com/thomas0809/MolScribe, Data (uspto_mol.zip, synthetic.zip, real.zip)",
        splits={
            split: (SplitFile(name=f"{name}.csv", metadata={"set": name}),)
            for split, name in _MOLECULE_FILES.items()
        },
        read=read.csv_rows,
        images=["{file_path}", "{set}/{name}"],
        id="{image_id}",
        text="SMILES",
        transform_image=pad_to_square,
    ),
    "grandstaff": BenchmarkSpec(
        homepage="grfia.dlsi.ua.es/musicdocs/grandstaff.tgz",
        splits=in_one_file(".", train="train", test="test"),
        read=_read_grandstaff,
        images=["{key}.jpg"],
        id="{key}",
        text="kern",
        transform_image=pad_to_square,
    ),
}
