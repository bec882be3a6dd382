"""Table structure: `table` -> HTML with the box of each cell, `<td coords="<loc..><loc..>...">`.

A row has the HTML as its `text` and the boxes of cells as instances, each labeled with the index of
its cell in the HTML, from 0. The PaliGemma 2 report documents the attribute and its order, x before
y, unlike in all other tasks of PaliGemma; it does not document the prompt.
"""

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes
from palitune.codec.boxes import ConfidenceFn
from palitune.records import Reference, Row, Size
from palitune.tasks.base import TextTask, require, require_texts

_CELL = re.compile(r"<td(?=[ >])")
_COORDS = re.compile(r' coords="(?:<loc[0-9]{4}>){4}"')
_LOC = re.compile(r"<loc[0-9]{4}>")


@dataclass(kw_only=True)
class TableStructure(TextTask):
    """Answers are scored as HTML without the boxes."""

    name: ClassVar[str] = "table_structure"
    single_image_only: ClassVar[bool] = True

    prompt: str = "table"
    """The prompt."""
    metrics: list[str] = field(default_factory=lambda: ["teds"])
    max_new_tokens: Annotated[int, Ge(1)] = 4096

    def prefix(self, row: Row) -> str:
        return self.prompt

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        html = require_texts(row, "text", (require(row, "text", row.text),))
        return (self._add_cell_boxes(html[0], row),), html

    def parse(self, text: str, size: Size, confidence: ConfidenceFn | None = None) -> str | None:
        return _COORDS.sub("", text).strip()

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        return require_texts(row, "suffix", (_COORDS.sub("", suffix),))

    def _add_cell_boxes(self, html: str, row: Row) -> str:
        cell_boxes = {instance.label: instance.box for instance in row.instances or ()}
        indices = count()

        def add_box(cell: re.Match[str]) -> str:
            box = cell_boxes.get(str(next(indices)))
            if box is None:
                return cell[0]
            y0, x0, y1, x1 = _LOC.findall(boxes.encode_box(box, row.size))
            return f'{cell[0]} coords="{x0}{y0}{x1}{y1}"'

        return _CELL.sub(add_box, html)
