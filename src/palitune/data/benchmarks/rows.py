"""Rows out of the records of a benchmark's official files."""

import os
from pathlib import Path
from typing import Any

from palitune.data.benchmarks.layout import BenchmarkSpec, Column, Record, SplitFile, value_at
from palitune.data.images.video import VideoSampling
from palitune.data.sources.validation import (
    cached_header_reader,
    image_path,
    image_size,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Row

PARSE_ERRORS = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What a record of another form than the layout's raises."""
_IMAGE_KEYS = ("image", "file_path", "image_local_name")


class RowReader:
    """Turn records into rows, as a layout says."""

    def __init__(
        self,
        name: str,
        spec: BenchmarkSpec,
        root: Path,
        rotations_file: str | None,
        video_sampling: VideoSampling,
    ) -> None:
        """`root` is the folder of the images; `rotations` a file in each folder of images."""
        self.name = name
        self.spec = spec
        self.root = str(root.absolute())
        self.rotations_file = rotations_file
        self.video_sampling = video_sampling
        self.read_header = cached_header_reader()
        self.rotations_by_folder: dict[str, dict[str, int]] = {}

    def row(self, record: Record, number: int, file: Path, split_file: SplitFile) -> Row:
        """Return the row of a record. Raises DataError where it is not as the layout says."""
        place = f"{file}, record {number}"
        try:
            record = record | dict(split_file.metadata)
            row_id = self.spec.id.format_map(record | {"number": number})
            place = f"{file}, {row_id if row_id.isprintable() else short_repr(row_id)}"
            return self._row(record, row_id, place)
        except DataError as mistake:
            told = str(mistake)
            raise DataError(told if told.startswith(place) else f"{place}: {told}") from mistake
        except (*PARSE_ERRORS, OSError) as mistake:
            raise DataError(
                format_mismatch_message(place, self.name, self.spec, mistake)
            ) from mistake

    def _row(self, record: Record, row_id: str, location: str) -> Row:
        layout = self.spec
        images = self._image_paths(record, location)
        size, *_ = [image_size(self.read_header, path, location) for path in images]
        told = {name: _text_column(record, column) for name, column in layout.attributes.items()}
        question = _text_column(record, layout.question)
        if layout.question is not None and question is None:
            raise KeyError(layout.question)
        return Row(
            id=row_id,
            images=images,
            size=size,
            location=location,
            question=question,
            answers=_text_list_column(record, layout.answers),
            choices=_text_list_column(record, layout.choices),
            hint=_text_column(record, layout.hint),
            captions=_text_list_column(record, layout.captions),
            language=_text_column(record, layout.language),
            text=_text_column(record, layout.text),
            instances=layout.make_instances
            and tuple(layout.make_instances(record, images[0], size)),
            attributes={name: value for name, value in told.items() if value is not None},
        )

    def _image_paths(self, record: Record, location: str) -> tuple[str, ...]:
        if self.spec.fields_per_image is not None:
            each = self.spec.fields_per_image(record)
            return tuple(self._image_path(record | filled, location) for filled in each)
        path = self._image_path(record, location)
        if self.spec.video_segment is None:
            return (path,)
        return self.video_sampling.extract(path, *self.spec.video_segment(record))

    def _image_path(self, record: Record, location: str) -> str:
        """Return the image of a record out of the first place that has it, turned or redrawn."""
        name = next((os.path.basename(str(record[k])) for k in _IMAGE_KEYS if k in record), "")
        fields = record | {"name": name}
        relative = [template.format_map(fields) for template in self.spec.images]
        relative.append(os.path.basename(relative[0]))
        places = list(dict.fromkeys(image_path(self.root, name, location) for name in relative))
        found = next(filter(os.path.isfile, places), None)
        if found is None:
            raise DataError(
                f"{location}: its {'video' if self.spec.video_segment else 'image'} is not at "
                f"{' or '.join(places)}; get it from {self.spec.homepage}, or say where images are "
                "with data.images=FOLDER"
            )
        if self.spec.transform_image is not None:
            found = self.spec.transform_image(record, found) or found
        return self._rotate_upright(found)

    def _rotate_upright(self, path: str) -> str:
        if self.rotations_file is None:
            return path
        from palitune.data.benchmarks.derived_images import read_rotations, rotate_image

        folder, name = os.path.split(path)
        if folder not in self.rotations_by_folder:
            self.rotations_by_folder[folder] = read_rotations(Path(folder) / self.rotations_file)
        quarters = self.rotations_by_folder[folder].get(os.path.splitext(name)[0], 0)
        return rotate_image(path, quarters) if quarters else path


def format_mismatch_message(location: str, name: str, spec: BenchmarkSpec, error: Exception) -> str:
    """Say that a file is not the official one, and where that is had."""
    what = f"{type(error).__name__} {short_repr(str(error))}"
    return (
        f"{location}: not as {name} has it ({what}); take the official file, from {spec.homepage}"
    )


def _text_column(record: Record, column: Column | None) -> str | None:
    value: Any = None if column is None else value_at(record, column)
    return None if value is None else str(value)


def _text_list_column(record: Record, column: Column | None) -> tuple[str, ...] | None:
    """Return the texts of a column; numbers become text, and empty ones are dropped.

    A few annotators of VizWiz, TextVQA and VQAv2 answered nothing.
    """
    value: Any = None if column is None else value_at(record, column)
    if value is None:
        return None
    texts = [str(text) for text in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if text.strip()) or None
