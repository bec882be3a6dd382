"""Predictions from a file: of an earlier evaluation, or of another program.

The file is one of

- a run folder or its `predictions.jsonl`, whose parsed values are used as they are, so the metrics
  are exactly those of the run;
- JSON lines of `{"id", "text"}`, with `"part"` if there are several datasets. The task parses the
  text like generated text;
- a JSON list of results for a test server (see `palitune.evaluation.submissions`).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import parse_json
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.partial_predictions import PREDICTIONS_FILE
from palitune.records import (
    Example,
    Instance,
    Mask,
    Prediction,
    check_box,
    check_four_numbers,
    check_score,
    mask_to_json,
    prediction_from_json,
)

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

TEXT_KEYS = ("text", "answer", "caption")
"""Accepted keys of the text of a prediction."""
ID_KEYS = ("id", "question_id", "questionId", "image_id", "image")
"""Accepted keys of the example id; `image` is the name of the image file."""


@dataclass(frozen=True)
class _PredictionEntry:
    """One entry of a file of predictions."""

    location: str
    """`file:line` or `file, entry N`, for messages."""
    fields: dict[str, Any]


def load_predictions(
    path: str | Path, datasets: "Sequence[TaskDataset]", settings: EvaluationConfig
) -> list[list[Prediction]]:
    """Load predictions for the first `max_samples` examples of every dataset.

    An example without an entry gets an empty prediction marked as missing. In a list of objects, it
    gets a prediction without objects.

    Args:
        path: A file of predictions, or a run folder.
        datasets: Datasets with their tasks.
        settings: Evaluation settings.

    Raises:
        DataError: If an entry belongs to no example, an example has two entries, or the file has
            another format.
    """
    file = Path(path)
    if file.is_dir():
        file /= PREDICTIONS_FILE
    entries_by_dataset: dict[str, list[_PredictionEntry]] = {d.name: [] for d in datasets}
    for entry in _read_entries(file):
        entries_by_dataset[_dataset_name(entry, list(entries_by_dataset))].append(entry)
    predictions = []
    for dataset in datasets:
        predicted = _dataset_predictions(dataset, entries_by_dataset[dataset.name], settings)
        if num_missing := sum(prediction.missing for prediction in predicted):
            log.warning(
                "%s: %d of %d examples have no prediction in %s and are scored as empty",
                dataset.name, num_missing, len(predicted), file,
            )  # fmt: skip
        predictions.append(predicted)
    return predictions


def _read_entries(file: Path) -> Iterator[_PredictionEntry]:
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"predictions: cannot read {file} ({error}). Set a file of predictions or a run folder "
            "with one."
        ) from error
    if not content.strip():
        raise DataError(f"{file} contains no predictions. It may be incomplete.")
    if content.lstrip().startswith("["):
        for number, entry in enumerate(_parse_json(content, str(file)), start=1):
            yield _to_entry(entry, f"{file}, entry {number}")
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            location = f"{file}:{number}"
            yield _to_entry(_parse_json(line, location), location)


def _parse_json(text: str, location: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(
            f"{location}: invalid JSON ({error}). The file may be incomplete."
        ) from error


def _to_entry(parsed: Any, location: str) -> _PredictionEntry:
    if not isinstance(parsed, dict):
        raise DataError(
            f'{location}: a prediction must be a JSON object, e.g. {{"id": "7", "text": "two"}}.'
        )
    return _PredictionEntry(location, parsed)


def _dataset_name(entry: _PredictionEntry, names: list[str]) -> str:
    """Return the dataset of an entry. With a single dataset any `part` is accepted."""
    name = entry.fields.get("part", names[0] if len(names) == 1 else None)
    if len(names) == 1 and isinstance(name, str):
        return names[0]
    if name not in names:
        raise DataError(
            f"{entry.location}: 'part' must be the dataset of the prediction, one of "
            f"{', '.join(names)}, got {name!r}."
        )
    return str(name)


def _dataset_predictions(
    dataset: "TaskDataset", entries: Sequence[_PredictionEntry], settings: EvaluationConfig
) -> list[Prediction]:
    lookup = _DatasetLookup(dataset)
    entries_by_id: dict[str, list[_PredictionEntry]] = {}
    for entry in entries:
        entries_by_id.setdefault(lookup.example_id(entry), []).append(entry)
    # A list of objects has no entry for an image without objects. A task with text parses "" to a
    # string, a task with objects to a tuple.
    lists_objects = all("category_id" in entry.fields for entry in entries) and not isinstance(
        dataset.task.parse("", (1, 1)), str
    )
    predictions = []
    for index in range(settings.num_examples(dataset.examples)):
        example = dataset.examples[index]
        if example_entries := entries_by_id.get(example.id):
            predictions.append(_parse_entries(example_entries, example, lookup))
        else:
            value = dataset.task.parse("", example.size)
            predictions.append(
                Prediction(id=example.id, text="", value=value, missing=not lists_objects)
            )
    return predictions


def _parse_entries(
    entries: Sequence[_PredictionEntry], example: Example, lookup: "_DatasetLookup"
) -> Prediction:
    """Parse all entries of one example."""
    first = entries[0]
    if all("category_id" in entry.fields for entry in entries) or (
        len(entries) == 1 and ("bbox" in first.fields or "segmentation" in first.fields)
    ):
        instances = tuple(_parse_instance(entry, example, lookup) for entry in entries)
        return Prediction(id=example.id, text="", value=instances)
    if len(entries) > 1:
        raise DataError(
            f"{entries[1].location}: example {example.id!r} of {lookup.dataset.name} already has a "
            f"prediction at {first.location}. Keep one of them."
        )
    if "prediction" in first.fields:
        try:
            return prediction_from_json(first.fields | {"id": example.id}, example.size)
        except KeyError as error:
            raise DataError(
                f"{first.location}: invalid record, {error} is missing. Run the evaluation again."
            ) from error
        except ValueError as error:
            raise DataError(
                f"{first.location}: invalid record, {error}. Run the evaluation again."
            ) from error
    texts = [first.fields[key] for key in TEXT_KEYS if isinstance(first.fields.get(key), str)]
    if len(texts) != 1:
        raise DataError(
            f"{first.location}: a prediction must have exactly one of the keys "
            f"{', '.join(TEXT_KEYS)} with a string."
        )
    task = lookup.dataset.task
    return Prediction(
        id=example.id,
        text=texts[0],
        value=task.parse(texts[0], example.size),
        repairs=task.repairs(texts[0]),
    )


def _parse_instance(
    entry: _PredictionEntry, example: Example, lookup: "_DatasetLookup"
) -> Instance:
    fields = entry.fields
    mask = _parse_mask(entry, example) if fields.get("segmentation") else None
    bbox = fields.get("bbox")
    if bbox is None and mask is not None:
        bbox = _bbox(mask)
    try:
        x, y, width, height = check_four_numbers(bbox)
        box = check_box((x, y, x + width, y + height))
        score = check_score(fields.get("score"))
    except ValueError as error:
        raise DataError(
            f"{entry.location}: bbox must be [x, y, width, height] in pixels and score a number "
            f"in [0, 1] ({error}). Write the predictions again."
        ) from error
    return Instance(lookup.class_name(entry), box, mask=mask, score=score)


def _parse_mask(entry: _PredictionEntry, example: Example) -> Mask:
    """Read polygons or run lengths; those of a prediction may be empty."""
    from palitune.data.sources.masks.formats import parse_segmentation

    return parse_segmentation(
        entry.fields["segmentation"], example.size, entry.location, allow_empty=True
    )


def _bbox(mask: Any) -> list[float]:
    """Return x, y, width and height of the bounding box of a mask; zeros for an empty one."""
    from pycocotools import mask as coco_mask

    bbox: list[float] = coco_mask.toBbox(mask_to_json(mask)).tolist()
    return bbox


class _DatasetLookup:
    """Example ids and class names of a dataset by the ids in files of predictions."""

    def __init__(self, dataset: "TaskDataset") -> None:
        self.dataset = dataset
        self.example_ids = {dataset.examples[index].id for index in range(len(dataset.examples))}

    def example_id(self, entry: _PredictionEntry) -> str:
        """Return the id of the example of an entry."""
        fields = entry.fields
        if "ref_id" in fields:  # results of RefCOCO; an example is one sentence of a reference
            example_id = f"{fields['ref_id']}-{fields.get('sent_id')}"
        else:
            key = next((key for key in ID_KEYS if key in fields), None)
            if key is None:
                raise DataError(
                    f"{entry.location}: the prediction has no id. Add the key {ID_KEYS[0]!r}."
                )
            example_id = str(fields[key])
            if key == "image":
                example_id = self._id_by_image.get(Path(example_id).name, example_id)
        if example_id not in self.example_ids:
            raise DataError(
                f"{entry.location}: id {example_id!r} is not in split {self.dataset.split!r} of "
                f"{self.dataset.name}. Use predictions for the evaluated data and split."
            )
        return example_id

    def class_name(self, entry: _PredictionEntry) -> str:
        """Return the class of an object; empty without `category_id` (referring expressions)."""
        if "category_id" not in entry.fields:
            return ""
        category_id = str(entry.fields["category_id"])
        if category_id not in self._class_name_by_id:
            raise DataError(
                f"{entry.location}: category_id {category_id} is not a class id of "
                f"data={self.dataset.source.name}."
            )
        return self._class_name_by_id[category_id]

    @cached_property
    def _class_name_by_id(self) -> dict[str, str]:
        class_ids = self.dataset.source.class_ids(self.dataset.split)
        return {str(class_id): name for name, class_id in class_ids.items()}

    @cached_property
    def _id_by_image(self) -> dict[str, str]:
        """Example ids by the name of the image file."""
        examples = (self.dataset.examples[index] for index in range(len(self.dataset.examples)))
        return {Path(example.images[0]).name: example.id for example in examples}
