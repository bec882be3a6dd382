"""Rows out of the records of a benchmark's official files."""

import os
from pathlib import Path
from typing import Any

from palitune.data.sources.checks import header_reader, image_path, image_size, shown
from palitune.data.sources.layout import Column, File, Layout, Record, value_at
from palitune.data.sources.videos import Frames
from palitune.examples import DataError, Row

WRONG = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What a record of another form than the layout's raises."""
_IMAGE_KEYS = ("image", "file_path", "image_local_name")


class RowReader:
    """Turn records into rows, as a layout says."""

    def __init__(
        self, name: str, layout: Layout, root: Path, rotations: str | None, frames: Frames
    ) -> None:
        """`root` is the folder of the images; `rotations` a file in each folder of images."""
        self.name = name
        self.layout = layout
        self.root = str(root.absolute())
        self.rotations = rotations
        self.frames = frames
        self.header = header_reader()
        self.turns: dict[str, dict[str, int]] = {}

    def row(self, record: Record, number: int, file: Path, part: File) -> Row:
        """Return the row of a record. Raises DataError where it is not as the layout says."""
        place = f"{file}, record {number}"
        try:
            record = record | dict(part.told)
            row_id = self.layout.id.format_map(record | {"number": number})
            place = f"{file}, {row_id if row_id.isprintable() else shown(row_id)}"
            return self._row(record, row_id, place)
        except DataError as mistake:
            told = str(mistake)
            raise DataError(told if told.startswith(place) else f"{place}: {told}") from mistake
        except (*WRONG, OSError) as mistake:
            raise DataError(another_version(place, self.name, self.layout, mistake)) from mistake

    def _row(self, record: Record, row_id: str, place: str) -> Row:
        layout = self.layout
        images = self._images(record, place)
        size, *_ = [image_size(self.header, path, place) for path in images]
        told = {name: _text(record, column) for name, column in layout.attributes.items()}
        question = _text(record, layout.question)
        if layout.question is not None and question is None:
            raise KeyError(layout.question)
        return Row(
            id=row_id,
            images=images,
            size=size,
            place=place,
            question=question,
            answers=_texts(record, layout.answers),
            choices=_texts(record, layout.choices),
            hint=_text(record, layout.hint),
            captions=_texts(record, layout.captions),
            language=_text(record, layout.language),
            text=_text(record, layout.text),
            instances=layout.objects and tuple(layout.objects(record, images[0], size)),
            attributes={name: value for name, value in told.items() if value is not None},
        )

    def _images(self, record: Record, place: str) -> tuple[str, ...]:
        if self.layout.each is not None:
            each = self.layout.each(record)
            return tuple(self._image(record | filled, place) for filled in each)
        path = self._image(record, place)
        if self.layout.video is None:
            return (path,)
        return self.frames.of(path, *self.layout.video(record))

    def _image(self, record: Record, place: str) -> str:
        """Return the image of a record out of the first place that has it, turned or redrawn."""
        name = next((os.path.basename(str(record[k])) for k in _IMAGE_KEYS if k in record), "")
        fields = record | {"name": name}
        relative = [template.format_map(fields) for template in self.layout.images]
        relative.append(os.path.basename(relative[0]))
        places = list(dict.fromkeys(image_path(self.root, name, place) for name in relative))
        found = next(filter(os.path.isfile, places), None)
        if found is None:
            raise DataError(
                f"{place}: its {'video' if self.layout.video else 'image'} is not at "
                f"{' or '.join(places)}; get it from {self.layout.home}, or say where images are "
                "with data.images=FOLDER"
            )
        if self.layout.redraw is not None:
            found = self.layout.redraw(record, found) or found
        return self._upright(found)

    def _upright(self, path: str) -> str:
        if self.rotations is None:
            return path
        from palitune.data.sources.official_images import rotations, turned

        folder, name = os.path.split(path)
        if folder not in self.turns:
            self.turns[folder] = rotations(Path(folder) / self.rotations)
        quarters = self.turns[folder].get(os.path.splitext(name)[0], 0)
        return turned(path, quarters) if quarters else path


def another_version(place: str, name: str, layout: Layout, mistake: Exception) -> str:
    """Say that a file is not the official one, and where that is had."""
    what = f"{type(mistake).__name__} {shown(str(mistake))}"
    return f"{place}: not as {name} has it ({what}); take the official file, from {layout.home}"


def _text(record: Record, column: Column | None) -> str | None:
    value: Any = None if column is None else value_at(record, column)
    return None if value is None else str(value)


def _texts(record: Record, column: Column | None) -> tuple[str, ...] | None:
    """Return the texts of a column; numbers become text, and empty ones are dropped.

    A few annotators of VizWiz, TextVQA and VQAv2 answered nothing.
    """
    value: Any = None if column is None else value_at(record, column)
    if value is None:
        return None
    texts = [str(text) for text in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if text.strip()) or None
