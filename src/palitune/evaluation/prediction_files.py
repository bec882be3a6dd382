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

from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.partial_predictions import PREDICTIONS_FILE
from palitune.evaluation.prediction_records import (
    PredictionRecord,
    PredictionsByDataset,
    from_json_record,
)
from palitune.records import Example, Instance, Mask

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

TEXT_KEYS = ("text", "answer", "caption")
"""Names that the text of a prediction may have."""
ID_KEYS = ("id", "question_id", "questionId", "image_id", "image")
"""Names that the id of its example may have; `image` is the name of the image file."""


@dataclass(frozen=True)
class _PredictionEntry:
    """One prediction of a file."""

    location: str
    fields: dict[str, Any]


def load_predictions(
    path: str | Path, datasets: "Sequence[TaskDataset]", settings: EvaluationConfig
) -> PredictionsByDataset:
    """Return the answers of a file to the first examples of every part.

    An example without a prediction gets an empty one that says so; of a list of objects it is
    one without objects. Raises DataError for a prediction of no example, two of one, and for a
    file that is none of those described above.
    """
    file = Path(path)
    if file.is_dir():
        file /= PREDICTIONS_FILE
    entries = list(_read_entries(file))
    by_part: dict[str, list[_PredictionEntry]] = {part.name: [] for part in datasets}
    for entry in entries:
        by_part[_find_component(entry, by_part)].append(entry)
    answers = [_dataset_predictions(file, part, by_part[part.name], settings) for part in datasets]
    for part, found in zip(datasets, answers, strict=True):
        if missing := sum(answer.missing for answer in found):
            log.warning(
                "%s: %d of %d examples have no prediction in %s; they count as empty ones",
                part.name, missing, len(found), file,
            )  # fmt: skip
    return answers


def _read_entries(file: Path) -> Iterator[_PredictionEntry]:
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
            yield _PredictionEntry(f"{file}:{number}", _check_is_object(parsed, f"{file}:{number}"))
            continue
        for index, entry in enumerate(parsed, start=1):
            place = f"{file}, entry {index}"
            yield _PredictionEntry(place, _check_is_object(entry, place))
    if not written.strip():
        raise DataError(f"{file}: there are no predictions in it; was it written to its end?")


def _check_is_object(parsed: Any, location: str) -> dict[str, Any]:
    if not isinstance(parsed, dict):
        raise DataError(f'{location}: not a prediction; write {{"id": "7", "text": "two"}}')
    return parsed


def _find_component(entry: _PredictionEntry, components: dict[str, Any]) -> str:
    names = list(components)
    part = entry.fields.get("part", names[0] if len(names) == 1 else None)
    if part in components or (len(names) == 1 and isinstance(part, str)):
        return part if part in components else names[0]
    raise DataError(
        f"{entry.location}: 'part' has to name the data set of the prediction; it is one of "
        f"{', '.join(names)}"
    )


def _dataset_predictions(
    file: Path,
    dataset: "TaskDataset",
    entries: Sequence[_PredictionEntry],
    settings: EvaluationConfig,
) -> list[PredictionRecord]:
    examples = dataset.examples
    count = min(settings.max_samples or len(examples), len(examples))
    names = _DatasetLookup(dataset)
    grouped: dict[str, list[_PredictionEntry]] = {}
    for entry in entries:
        grouped.setdefault(names.example_id(entry), []).append(entry)
    # A list of objects has no entry for an image that nothing was found in.
    lists_objects = all("category_id" in entry.fields for entry in entries) and not isinstance(
        dataset.task.parse("", (1, 1)), str
    )
    found: list[PredictionRecord] = []
    for index in range(count):
        example = examples[index]
        own = grouped.get(example.id, [])
        if own and all("category_id" in entry.fields for entry in own):
            found.append(_parse_objects(own, example, names))
        elif len(own) > 1:
            raise DataError(
                f"{own[1].location}: example {example.id!r} of {dataset.name} has a prediction already, "
                f"at {own[0].location}; keep one"
            )
        elif own and ("bbox" in own[0].fields or "segmentation" in own[0].fields):
            found.append(_parse_objects(own, example, names))
        elif own:
            found.append(_parse_entry(own[0], dataset, example))
        else:
            value = dataset.task.parse("", example.size)
            found.append(PredictionRecord(text="", value=value, missing=not lists_objects))
    return found


def _parse_entry(
    entry: _PredictionEntry, dataset: "TaskDataset", example: Example
) -> PredictionRecord:
    if "prediction" in entry.fields:
        try:
            return from_json_record(entry.fields)
        except (KeyError, TypeError, ValueError) as mistake:
            raise DataError(
                f"{entry.location}: the record lacks {mistake}; run the evaluation again"
            ) from mistake
    texts = [entry.fields[name] for name in TEXT_KEYS if isinstance(entry.fields.get(name), str)]
    if len(texts) != 1:
        raise DataError(
            f"{entry.location}: a prediction needs one text, called {', '.join(TEXT_KEYS[:-1])} or "
            f"{TEXT_KEYS[-1]}"
        )
    return PredictionRecord(text=texts[0], value=dataset.task.parse(texts[0], example.size))


def _parse_objects(
    entries: Sequence[_PredictionEntry], example: Example, lookup: "_DatasetLookup"
) -> PredictionRecord:
    """Read all results of one image."""
    value = tuple(_parse_instance(entry, example, lookup) for entry in entries)
    return PredictionRecord(text="", value=value)


def _parse_instance(
    entry: _PredictionEntry, example: Example, lookup: "_DatasetLookup"
) -> Instance:
    content = entry.fields
    mask = _parse_mask(entry, example) if content.get("segmentation") else None
    try:
        x, y, width, height = content["bbox"] if "bbox" in content else _mask_bbox(mask)
        box = (float(x), float(y), float(x) + float(width), float(y) + float(height))
        score = content.get("score")
        score = None if score is None else float(score)
    except (TypeError, ValueError) as mistake:
        raise DataError(
            f"{entry.location}: bbox {content.get('bbox')!r} must be [x, y, width, height] in pixels "
            f"and score {content.get('score')!r} a number"
        ) from mistake
    return Instance(lookup.class_name(entry), box, mask=mask, score=score)


def _parse_mask(entry: _PredictionEntry, example: Example) -> Mask:
    """Read polygons or run lengths; those of a prediction may be empty."""
    from palitune.data.sources.masks.formats import parse_segmentation

    return parse_segmentation(
        entry.fields["segmentation"], example.size, entry.location, allow_empty=True
    )


def _mask_bbox(mask: Any) -> tuple[float, float, float, float]:
    """Return x, y, width and height of what a mask covers."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0.0, 0.0, 0.0, 0.0
    x, y = float(columns[0]), float(rows[0])
    return x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y


class _DatasetLookup:
    """The examples and classes of a part by the names that files have for them."""

    def __init__(self, dataset: "TaskDataset") -> None:
        self.dataset = dataset
        self.example_ids = {dataset.examples[index].id for index in range(len(dataset.examples))}
        self._example_id_by_image: dict[str, str] = {}
        self._class_name_by_id: dict[str, str] = {}

    def example_id(self, entry: _PredictionEntry) -> str:
        """Return the id of the example that a prediction is for."""
        content = entry.fields
        if "ref_id" in content:
            found = f"{content['ref_id']}-{content.get('sent_id')}"
        else:
            name = next((name for name in ID_KEYS if name in content), None)
            if name is None:
                raise DataError(f"{entry.location}: a prediction needs an id, called {ID_KEYS[0]}")
            found = str(content[name])
            if name == "image":
                found = self._load_example_id_by_image().get(Path(found).name, found)
        if found not in self.example_ids:
            raise DataError(
                f"{entry.location}: id {found!r} is none of split {self.dataset.split!r} of "
                f"{self.dataset.name}; predictions have to be of the data and split that is evaluated"
            )
        return found

    def class_name(self, entry: _PredictionEntry) -> str:
        """Return the class of an object; the one object of an expression has none."""
        if "category_id" not in entry.fields:
            return ""
        if not self._class_name_by_id:
            numbers = self.dataset.source.class_ids(self.dataset.split)
            self._class_name_by_id = {str(number): name for name, number in numbers.items()}
        number = str(entry.fields["category_id"])
        if number not in self._class_name_by_id:
            raise DataError(
                f"{entry.location}: category_id {number} is none of the classes that data="
                f"{self.dataset.source.name} has numbers for"
            )
        return self._class_name_by_id[number]

    def _load_example_id_by_image(self) -> dict[str, str]:
        """Return ids by the name of the image file."""
        if not self._example_id_by_image:
            count = len(self.dataset.examples)
            examples = (self.dataset.examples[index] for index in range(count))
            self._example_id_by_image = {
                Path(example.images[0]).name: example.id for example in examples
            }
        return self._example_id_by_image
