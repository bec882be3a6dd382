"""Benchmarks of tables, molecules and music: descriptions of their official files.

As in the transfers of PaliGemma 2, images are padded to squares with white. Its report does not
state the side; here it is the right or the bottom.
"""

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

from palitune.codec.parsing import parse_json
from palitune.data.benchmarks import readers as read
from palitune.data.benchmarks.derived_images import pad_to_square
from palitune.data.benchmarks.layout import (
    SPLIT_NAMES,
    BenchmarkSpec,
    Record,
    by_split,
    in_one_file,
)
from palitune.records import Instance, Size

_CELL_START_TOKENS = ("<td>", ">")
"""Structure tokens that precede the content of a cell."""
_MOLECULE_FILES = {
    "train": "uspto_mol/train_680k",
    "test": "synthetic/chemdraw",
    "indigo": "synthetic/indigo",
    "acs": "real/acs",
    "clef": "real/CLEF",
    "staker": "real/staker",
    "uob": "real/UOB",
    "uspto": "real/USPTO",
}


def _read_pubtabnet(file: Path) -> Iterator[Record]:
    """Read PubTabNet line by line and join the tokens of its HTML."""
    with file.open(encoding="utf-8") as content:
        for line in content:
            record = parse_json(line)
            table = record.get("html")  # absent in the test set
            cells = table["cells"] if table else []
            html = table and _join_html(
                table["structure"]["tokens"], [cell["tokens"] for cell in cells]
            )
            boxes = {str(n): cell["bbox"] for n, cell in enumerate(cells) if "bbox" in cell}
            names = ("filename", "split", "imgid")
            yield {name: record[name] for name in names} | {"html": html, "boxes": boxes}


def _join_html(structure: list[str], cells: list[list[str]]) -> str:
    """Insert the contents of cells, with `<` and `&` escaped, into the structure of a table."""
    contents = iter(cells)
    html = ["<table>"]
    for token in structure:
        html.append(token)
        if token in _CELL_START_TOKENS:
            # Longer tokens of a cell are tags such as <b>.
            html += (
                part if len(part) > 1 else escape(part, quote=False) for part in next(contents)
            )
    return "".join([*html, "</table>"])


def _cell_instances(record: Record, _: str, size: Size) -> Iterator[Instance]:
    """Return the boxes of cells clipped to the image; the label is the number of the cell."""
    for number, (x0, y0, x1, y1) in record["boxes"].items():
        left, top = max(float(x0), 0.0), max(float(y0), 0.0)
        right, bottom = min(float(x1), float(size[0])), min(float(y1), float(size[1]))
        if left < right and top < bottom:
            yield Instance(number, (left, top, right, bottom))


def _read_grandstaff(folder: Path) -> Iterator[Record]:
    """Read the files of GrandStaff; the test set is the original pieces, train their variations."""
    for file in sorted(folder.rglob("*.krn")):
        yield {
            "key": file.relative_to(folder).with_suffix("").as_posix(),
            "split": "test" if file.name.startswith("original_") else "train",
            "kern": file.read_text(encoding="utf-8"),
        }


NOTATION_BENCHMARKS: dict[str, BenchmarkSpec] = {
    "pubtabnet": BenchmarkSpec(
        homepage="github.com/ibm-aur-nlp/PubTabNet (pubtabnet.tar.gz)",
        splits=in_one_file("PubTabNet_2.0.0.jsonl", SPLIT_NAMES),
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
            split: tuple(
                replace(
                    file,
                    alternatives=(file.name.lower(),),
                    metadata={"split": official, "lower_split": official.lower()},
                )
                for file in by_split("{}.csv", {split: official})[split]
            )
            for split, official in _MOLECULE_FILES.items()
        },
        read=read.molecules,
        images=["{file_path}", "{split}/{name}", "{lower_split}/{name}"],
        id="{image_id}",
        text="SMILES",
        transform_image=pad_to_square,
    ),
    "grandstaff": BenchmarkSpec(
        homepage="grfia.dlsi.ua.es/musicdocs/grandstaff.tgz",
        splits=in_one_file(".", {"train": "train", "test": "test"}),
        read=_read_grandstaff,
        images=["{key}.jpg"],
        id="{key}",
        text="kern",
        transform_image=pad_to_square,
    ),
}
