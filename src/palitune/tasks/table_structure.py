"""`table` -> the table as HTML, with the box of each cell: `<td coords="<loc..><loc..>...">`.

A row brings the HTML as its `text` and the boxes of cells as instances, each labelled by the number
of its cell in the HTML, from 0. The PaliGemma 2 report tells of the attribute and that x comes
first in it, unlike in all else that PaliGemma writes; the words of the prompt it does not tell.
"""

import re
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

from palitune.codec import boxes
from palitune.codec.boxes import ConfidenceFn
from palitune.errors import DataError
from palitune.records import Reference, Row, Size
from palitune.tasks.base import TextTask, require, require_texts

_CELL = re.compile(r"<td(?=[ >])")
_COORDS = re.compile(r' coords="(?:<loc[0-9]{4}>){4}"')
_LOC = re.compile(r"<loc[0-9]{4}>")


@dataclass(kw_only=True)
class TableStructure(TextTask):
    """Answers are judged as HTML, without the boxes."""

    name: ClassVar[str] = "table_structure"
    single_image_only: ClassVar[bool] = True

    prompt: str = "table"
    """The prompt."""
    metrics: list[str] = field(default_factory=lambda: ["teds"])
    max_new_tokens: int = 4096

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
        of_cell = {instance.label: instance.box for instance in row.instances or ()}
        numbers = count()

        def cell(found: re.Match[str]) -> str:
            box = of_cell.get(str(next(numbers)))
            if box is None:
                return found[0]
            y0, x0, y1, x1 = _LOC.findall(boxes.encode_box(box, row.size))
            return f'{found[0]} coords="{x0}{y0}{x1}{y1}"'

        try:
            return _CELL.sub(cell, html)
        except ValueError as mistake:
            raise DataError(f"{row.location}: {mistake}") from mistake
