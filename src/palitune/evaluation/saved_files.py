"""Predictions out of files: of an earlier evaluation, or made elsewhere.

A file is what a run wrote (its folder or its `predictions.jsonl`), lines of `{"id", "text"}` (with
`"part"` where there are several), or a JSON list of results as test servers take them: see
`palitune.evaluation.submissions`. Text is read by the task as if the model had written it. What a
run wrote is taken as it was read then, so that it gives the same numbers to the last digit.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from palitune.evaluation.journal import FILE
from palitune.evaluation.records import Answer, Answers, from_record
from palitune.evaluation.settings import Evaluation
from palitune.examples import DataError, Example, Instance, Mask, mask_from_json

if TYPE_CHECKING:
    from palitune.data.dataset import Part

log = logging.getLogger(__name__)

TEXTS = ("text", "answer", "caption")
"""Names that the text of a prediction may have."""
IDS = ("id", "question_id", "questionId", "image_id", "image")
"""Names that the id of its example may have; `image` is the name of the image file."""


@dataclass(frozen=True)
class _Entry:
    """One prediction of a file."""

    place: str
    content: dict[str, Any]


def read(path: Path, parts: "Sequence[Part]", settings: Evaluation) -> Answers:
    """Return the answers of a file to the first examples of every part.

    An example without a prediction gets an empty one that says so; of a list of objects it is
    one without objects. Raises DataError for a prediction of no example, two of one, and for a
    file that is none of those described above.
    """
    file = path / FILE if path.is_dir() else path
    entries = list(_entries(file))
    by_part: dict[str, list[_Entry]] = {part.name: [] for part in parts}
    for entry in entries:
        by_part[_part_of(entry, by_part)].append(entry)
    answers = [_answers(file, part, by_part[part.name], settings) for part in parts]
    for part, found in zip(parts, answers, strict=True):
        if missing := sum(answer.missing for answer in found):
            log.warning(
                "%s: %d of %d examples have no prediction in %s; they count as empty ones",
                part.name, missing, len(found), file,
            )  # fmt: skip
    return answers


def _entries(file: Path) -> Iterator[_Entry]:
    try:
        written = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as mistake:
        raise DataError(
            f"predictions: {file} cannot be read ({mistake}); give a file of predictions, or the "
            "folder of a run that has one"
        ) from mistake
    is_list = written.lstrip().startswith("[")
    lines = [written] if is_list else written.split("\n")
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            parsed = json.loads(text)
        except ValueError as mistake:
            place = file if is_list else f"{file}:{number}"
            raise DataError(
                f"{place}: not JSON ({mistake}); was it written to its end?"
            ) from mistake
        if not is_list:
            yield _Entry(f"{file}:{number}", _object(parsed, f"{file}:{number}"))
            continue
        for index, entry in enumerate(parsed, start=1):
            place = f"{file}, entry {index}"
            yield _Entry(place, _object(entry, place))
    if not written.strip():
        raise DataError(f"{file}: there are no predictions in it; was it written to its end?")


def _object(parsed: Any, place: str) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise DataError(f'{place}: not a prediction; write {{"id": "7", "text": "two"}}')
    return parsed


def _part_of(entry: _Entry, parts: dict[str, Any]) -> str:
    names = list(parts)
    part = entry.content.get("part", names[0] if len(names) == 1 else None)
    if part in parts or (len(names) == 1 and isinstance(part, str)):
        return part if part in parts else names[0]
    raise DataError(
        f"{entry.place}: 'part' has to name the data set of the prediction; it is one of "
        f"{', '.join(names)}"
    )


def _answers(
    file: Path, part: "Part", entries: Sequence[_Entry], settings: Evaluation
) -> list[Answer]:
    examples = part.examples
    count = min(settings.limit or len(examples), len(examples))
    names = _Names(part)
    grouped: dict[str, list[_Entry]] = {}
    for entry in entries:
        grouped.setdefault(names.id_of(entry), []).append(entry)
    # A list of objects has no entry for an image that nothing was found in.
    lists_objects = all("category_id" in entry.content for entry in entries) and not isinstance(
        part.task.parse("", (1, 1)), str
    )
    found: list[Answer] = []
    for index in range(count):
        example = examples[index]
        own = grouped.get(example.id, [])
        if own and all("category_id" in entry.content for entry in own):
            found.append(_objects(own, example, names))
        elif len(own) > 1:
            raise DataError(
                f"{own[1].place}: example {example.id!r} of {part.name} has a prediction already, "
                f"at {own[0].place}; keep one"
            )
        elif own and ("bbox" in own[0].content or "segmentation" in own[0].content):
            found.append(_objects(own, example, names))
        elif own:
            found.append(_answer(own[0], part, example))
        else:
            value = part.task.parse("", example.size)
            found.append(Answer(text="", value=value, missing=not lists_objects))
    return found


def _answer(entry: _Entry, part: "Part", example: Example) -> Answer:
    if "prediction" in entry.content:
        try:
            return from_record(entry.content)
        except (KeyError, TypeError, ValueError) as mistake:
            raise DataError(
                f"{entry.place}: the record lacks {mistake}; run the evaluation again"
            ) from mistake
    texts = [entry.content[name] for name in TEXTS if isinstance(entry.content.get(name), str)]
    if len(texts) != 1:
        raise DataError(
            f"{entry.place}: a prediction needs one text, called {', '.join(TEXTS[:-1])} or "
            f"{TEXTS[-1]}"
        )
    return Answer(text=texts[0], value=part.task.parse(texts[0], example.size))


def _objects(entries: Sequence[_Entry], example: Example, names: "_Names") -> Answer:
    """Read all results of one image."""
    value = tuple(_instance(entry, example, names) for entry in entries)
    return Answer(text="", value=value)


def _instance(entry: _Entry, example: Example, names: "_Names") -> Instance:
    content = entry.content
    mask = _mask(entry, example) if content.get("segmentation") else None
    try:
        x, y, width, height = content["bbox"] if "bbox" in content else _extent(mask)
        box = (float(x), float(y), float(x) + float(width), float(y) + float(height))
        score = content.get("score")
        score = None if score is None else float(score)
    except (TypeError, ValueError) as mistake:
        raise DataError(
            f"{entry.place}: bbox {content.get('bbox')!r} must be [x, y, width, height] in pixels "
            f"and score {content.get('score')!r} a number"
        ) from mistake
    return Instance(names.label_of(entry), box, mask=mask, score=score)


def _mask(entry: _Entry, example: Example) -> Mask:
    """Read polygons or run lengths; those of a prediction may be empty."""
    from palitune.data.sources.shapes import read_mask

    written = entry.content["segmentation"]
    if isinstance(written, dict) and isinstance(written.get("counts"), str):
        if written.get("size") == [example.size[1], example.size[0]]:
            return mask_from_json(written)
        raise DataError(
            f"{entry.place}: segmentation has the size {written.get('size')}, the image "
            f"{[example.size[1], example.size[0]]} (height, width); write it anew"
        )
    return read_mask(written, example.size, entry.place)


def _extent(mask: Any) -> tuple[float, float, float, float]:
    """Return x, y, width and height of what a mask covers."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    x, y = float(columns[0]), float(rows[0])
    return x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y


class _Names:
    """The examples and classes of a part by the names that files have for them."""

    def __init__(self, part: "Part") -> None:
        self.part = part
        self.ids = {part.examples[index].id for index in range(len(part.examples))}
        self._by_image: dict[str, str] = {}
        self._labels: dict[str, str] = {}

    def id_of(self, entry: _Entry) -> str:
        """Return the id of the example that a prediction is for."""
        content = entry.content
        if "ref_id" in content:
            found = f"{content['ref_id']}-{content.get('sent_id')}"
        else:
            name = next((name for name in IDS if name in content), None)
            if name is None:
                raise DataError(f"{entry.place}: a prediction needs an id, called {IDS[0]}")
            found = str(content[name])
            if name == "image":
                found = self._images().get(Path(found).name, found)
        if found not in self.ids:
            raise DataError(
                f"{entry.place}: id {found!r} is none of split {self.part.split!r} of "
                f"{self.part.name}; predictions have to be of the data and split that is evaluated"
            )
        return found

    def label_of(self, entry: _Entry) -> str:
        """Return the class of an object; the one object of an expression has none."""
        if "category_id" not in entry.content:
            return ""
        if not self._labels:
            numbers = self.part.source.class_ids(self.part.split)
            self._labels = {str(number): name for name, number in numbers.items()}
        number = str(entry.content["category_id"])
        if number not in self._labels:
            raise DataError(
                f"{entry.place}: category_id {number} is none of the classes that data="
                f"{self.part.source.name} has numbers for"
            )
        return self._labels[number]

    def _images(self) -> dict[str, str]:
        """Return ids by the name of the image file."""
        if not self._by_image:
            count = len(self.part.examples)
            examples = (self.part.examples[index] for index in range(count))
            self._by_image = {Path(example.images[0]).name: example.id for example in examples}
        return self._by_image
