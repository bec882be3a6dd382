"""Rows from the records of official benchmark files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.benchmarks.layout import BenchmarkSpec, Column, Record, SplitFile, value_at
from palitune.data.images.video import VideoSampling
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    image_path,
    image_size,
    short_repr,
    with_location,
)
from palitune.errors import DataError, LeftOut
from palitune.records import Row

PARSE_ERRORS = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""Exceptions raised by a record in another format."""
_IMAGE_KEYS = ("image", "file_path", "image_local_name")


class _MissingImageError(DataError):
    """An image that is at none of its possible paths."""

    def __init__(self, paths: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.folder_exists = os.path.isdir(os.path.dirname(paths[0]))


def _existing_case(path: str) -> str:
    """Return a path whose file extension may be written in the other case."""
    if os.path.isfile(path):
        return path
    stem, extension = os.path.splitext(path)
    return stem + extension.swapcase()


@dataclass
class RowReader:
    """Build rows from the records of a benchmark."""

    name: str
    """Name of the benchmark, for messages."""
    spec: BenchmarkSpec
    root: str
    """Absolute path of the folder of the images."""
    rotations_file: str | None
    """Name of the CSV file of rotations in each image folder; None: no rotation."""
    video_sampling: VideoSampling
    read_header: HeaderReader = field(default_factory=cached_header_reader)
    rotations_by_folder: dict[str, dict[str, int]] = field(default_factory=dict)

    def row(self, record: Record, number: int, file: Path, split_file: SplitFile) -> Row:
        """Return the row of a record.

        Args:
            record: The record.
            number: Position of the record in the file, from 0.
            file: The file, for messages.
            split_file: Description of the file.

        Raises:
            DataError: The record is not in the format of the benchmark.
        """
        location = f"{file}, record {number}"
        try:
            record = record | dict(split_file.metadata)
            row_id = self.spec.id.format_map(record | {"number": number})
            location = f"{file}, {row_id if row_id.isprintable() else short_repr(row_id)}"
            return self._row(record, row_id, location, split_file.may_lack_images)
        except LeftOut:
            raise
        except DataError as error:
            raise with_location(error, location) from error
        except (*PARSE_ERRORS, OSError) as error:
            raise format_mismatch(location, self.name, self.spec, error) from error

    def _row(self, record: Record, row_id: str, location: str, may_lack_images: bool) -> Row:
        spec = self.spec
        try:
            images = self._image_paths(record, location)
        except _MissingImageError as error:
            if may_lack_images and error.folder_exists:
                raise LeftOut("records whose image does not exist", location) from error
            raise
        size, *_ = [image_size(self.read_header, path, location) for path in images]
        attributes = {
            name: _text_column(record, column) for name, column in spec.attributes.items()
        }
        question = _text_column(record, spec.question)
        if spec.question is not None and question is None:
            raise KeyError(spec.question)
        return Row(
            id=row_id,
            images=images,
            size=size,
            location=location,
            question=question,
            answers=_text_list_column(record, spec.answers),
            choices=_text_list_column(record, spec.choices),
            hint=_text_column(record, spec.hint),
            captions=_text_list_column(record, spec.captions),
            language=_text_column(record, spec.language),
            text=_text_column(record, spec.text),
            instances=spec.make_instances and tuple(spec.make_instances(record, images[0], size)),
            attributes={name: value for name, value in attributes.items() if value is not None},
        )

    def _image_paths(self, record: Record, location: str) -> tuple[str, ...]:
        if self.spec.fields_per_image is not None:
            images = self.spec.fields_per_image(record)
            return tuple(self._image_path(record | fields, location) for fields in images)
        path = self._image_path(record, location)
        if self.spec.video_segment is None:
            return (path,)
        return self.video_sampling.extract(path, *self.spec.video_segment(record))

    def _image_path(self, record: Record, location: str) -> str:
        """Return the first existing image of a record, transformed and rotated if required."""
        name = next((os.path.basename(str(record[k])) for k in _IMAGE_KEYS if k in record), "")
        fields = record | {"name": name}
        relative = [template.format_map(fields) for template in self.spec.images]
        relative.append(os.path.basename(relative[0]))
        paths = list(dict.fromkeys(image_path(self.root, name, location) for name in relative))
        path = next(filter(os.path.isfile, map(_existing_case, paths)), None)
        if path is None:
            raise _MissingImageError(
                paths,
                f"{location}: {'video' if self.spec.video_segment else 'image'} must be at "
                f"{' or '.join(paths)}, got none. Download it from {self.spec.homepage}, or set "
                "data.images=FOLDER.",
            )
        if self.spec.transform_image is not None:
            path = self.spec.transform_image(record, path) or path
        return self._rotate_upright(path)

    def _rotate_upright(self, path: str) -> str:
        if self.rotations_file is None:
            return path
        from palitune.data.benchmarks.derived_images import read_rotations, rotate_image

        folder, name = os.path.split(path)
        if folder not in self.rotations_by_folder:
            self.rotations_by_folder[folder] = read_rotations(Path(folder) / self.rotations_file)
        quarters = self.rotations_by_folder[folder].get(os.path.splitext(name)[0], 0)
        return rotate_image(path, quarters) if quarters else path


def format_mismatch(location: str, name: str, spec: BenchmarkSpec, error: Exception) -> DataError:
    """Return the error of a record or file that is not in the official format of `name`."""
    return DataError(
        f"{location}: record must have the format of {name}, got {type(error).__name__} "
        f"{short_repr(str(error))}. Download the official file from {spec.homepage}."
    )


def _text_column(record: Record, column: Column | None) -> str | None:
    value: Any = None if column is None else value_at(record, column)
    return None if value is None else str(value)


def _text_list_column(record: Record, column: Column | None) -> tuple[str, ...] | None:
    """Return the texts of a column, numbers as text, without empty texts.

    Some answers in VizWiz, TextVQA and VQAv2 are empty.
    """
    value: Any = None if column is None else value_at(record, column)
    if value is None:
        return None
    texts = [str(text) for text in (value if isinstance(value, list) else [value])]
    return tuple(text for text in texts if text.strip()) or None
