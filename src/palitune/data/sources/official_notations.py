"""The official files of benchmarks that have a notation read: tables, molecules, music.

See `layout` for what an entry means. Images are padded to squares with white, as in the transfers
of PaliGemma 2, at the right or below, which its report does not tell.
"""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from palitune.data.sources import official_readers as read
from palitune.data.sources.layout import BY_SPLIT, File, Layout, Record, in_one_file
from palitune.data.sources.official_images import squared
from palitune.examples import Instance, Size

_OPENED = ("<td>", ">")
"""Tokens after which the content of a cell begins."""
_MOLECULES = {
    "train": "uspto_mol/train_680k",
    "test": "synthetic/chemdraw",
    "indigo": "synthetic/indigo",
    **{name: f"real/{name}" for name in ("acs", "clef", "staker", "uob", "uspto")},
}


def _tables(file: Path) -> Iterator[Record]:
    """Read PubTabNet line by line, its HTML joined."""
    with file.open(encoding="utf-8") as content:
        for line in content:
            record = json.loads(line)
            cells = record["html"]["cells"]
            html = _joined(record["html"]["structure"]["tokens"], [c["tokens"] for c in cells])
            boxes = {str(n): cell["bbox"] for n, cell in enumerate(cells) if "bbox" in cell}
            names = ("filename", "split", "imgid")
            yield {name: record[name] for name in names} | {"html": html, "boxes": boxes}


def _joined(structure: list[str], cells: list[list[str]]) -> str:
    """Put what cells hold into the structure of a table; `<` and `&` in it are characters."""
    contents = iter(cells)
    written = ["<table>"]
    for token in structure:
        written.append(token)
        if token in _OPENED:
            held = (part if len(part) > 1 else escape(part, quote=False) for part in next(contents))
            written.extend(held)
    return "".join([*written, "</table>"])


def _cells(record: Record, _: str, size: Size) -> Iterator[Instance]:
    """Give the boxes of cells, cut to the image, each labelled with the number of its cell."""
    for number, (x0, y0, x1, y1) in record["boxes"].items():
        left, top = max(float(x0), 0.0), max(float(y0), 0.0)
        right, bottom = min(float(x1), float(size[0])), min(float(y1), float(size[1]))
        if left < right and top < bottom:
            yield Instance(number, (left, top, right, bottom))


def _scores(folder: Path) -> Iterator[Record]:
    """Read GrandStaff's files; the test set is what is original, the rest is made of it."""
    for file in sorted(folder.rglob("*.krn")):
        yield {
            "key": file.relative_to(folder).with_suffix("").as_posix(),
            "split": "test" if file.name.startswith("original_") else "train",
            "kern": file.read_text(encoding="utf-8"),
        }


NOTATIONS: dict[str, Layout] = {
    "pubtabnet": Layout(
        home="github.com/ibm-aur-nlp/PubTabNet (pubtabnet.tar.gz)",
        splits=in_one_file("PubTabNet_2.0.0.jsonl", **BY_SPLIT),
        read=_tables,
        images=["{split}/{filename}"],
        id="{imgid}",
        text="html",
        objects=_cells,
        redraw=squared,
    ),
    "molecules": Layout(
        home="github.com/thomas0809/MolScribe, Data (uspto_mol.zip, synthetic.zip, real.zip)",
        splits={
            split: (File(name=f"{name}.csv", told={"set": name}),)
            for split, name in _MOLECULES.items()
        },
        read=read.table,
        images=["{file_path}", "{set}/{name}"],
        id="{image_id}",
        text="SMILES",
        redraw=squared,
    ),
    "grandstaff": Layout(
        home="grfia.dlsi.ua.es/musicdocs/grandstaff.tgz",
        splits=in_one_file(".", train="train", test="test"),
        read=_scores,
        images=["{key}.jpg"],
        id="{key}",
        text="kern",
        redraw=squared,
    ),
}
