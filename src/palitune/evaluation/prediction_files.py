"""Predictions from a file: of an earlier evaluation, or of another program.

The file is one of

- a run folder or its `predictions.jsonl`, whose parsed values are used as they are, so the metrics
  are exactly those of the run;
- JSON lines of `{"id", "text"}`, with `"part"` if there are several datasets. The task parses the
  text like generated text;
- a JSON list of results for a test server (see `palitune.evaluation.submissions`), or JSON lines of
  such results: an object per entry, with its image and class by id or by name.
"""

import json
import logging
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
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
IMAGE_KEYS = ("image", "file_name")
"""Accepted keys of the name of the image file, with or without folders."""
ID_KEYS = ("id", "question_id", "questionId", *IMAGE_KEYS, "image_id")
"""Accepted keys of the example id. An `image_id` that is none may be the image's name, as YOLO
writes it."""
CLASS_KEYS = ("category_id", "category")
"""Accepted keys of the class of an object; `category` is its name."""


@dataclass(frozen=True)
class _PredictionEntry:
    """One entry of a file of predictions."""

    locate: Callable[[], str]
    fields: dict[str, Any]

    @property
    def location(self) -> str:
        """`file:line`, for messages."""
        return self.locate()

    @property
    def is_object(self) -> bool:
        """Whether the entry is one object of an image that may have several."""
        return any(key in self.fields for key in CLASS_KEYS)


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


def predicted_datasets(path: str | Path, datasets: "Sequence[TaskDataset]") -> "list[TaskDataset]":
    """Return the datasets that a file of predictions has entries for; the only one in any case."""
    names = [dataset.name for dataset in datasets]
    found = Counter(_dataset_name(entry, names) for entry in _read_entries(Path(path)))
    return [dataset for dataset in datasets if len(datasets) == 1 or found[dataset.name]]


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
            yield _to_entry(entry, partial(_locate_in_list, file, content, number))
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            location = f"{file}:{number}"
            yield _to_entry(_parse_json(line, location), partial(str, location))


def _locate_in_list(file: Path, content: str, number: int) -> str:
    """Return the line at which an entry of a JSON list begins."""
    skip, decoder, position = re.compile(r"[\s,]*"), json.JSONDecoder(), content.index("[") + 1
    for remaining in reversed(range(number)):
        found = skip.match(content, position)
        position = found.end() if found else position
        if remaining:
            _, position = decoder.raw_decode(content, position)
    return f"{file}:{content.count(chr(10), 0, position) + 1}, entry {number}"


def _parse_json(text: str, location: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(
            f"{location}: invalid JSON ({error}). The file may be incomplete."
        ) from error


def _to_entry(parsed: Any, locate: Callable[[], str]) -> _PredictionEntry:
    if not isinstance(parsed, dict):
        raise DataError(
            f'{locate()}: a prediction must be a JSON object, e.g. {{"id": "7", "text": "two"}}.'
        )
    return _PredictionEntry(locate, parsed)


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
    lists_objects = all(entry.is_object for entry in entries) and not isinstance(
        dataset.task.parse("", (1, 1)), str
    )
    predictions = []
    empty = 0
    for index in range(settings.num_examples(dataset.examples)):
        example = dataset.examples[index]
        if example_entries := entries_by_id.get(example.id):
            predictions.append(_parse_entries(example_entries, example, lookup))
        else:
            empty += lists_objects
            value = dataset.task.parse("", example.size)
            predictions.append(
                Prediction(id=example.id, text="", value=value, missing=not lists_objects)
            )
    if empty:
        log.info(
            "%s: %d of %d examples have no predicted object", dataset.name, empty, len(predictions)
        )
    return predictions


def _parse_entries(
    entries: Sequence[_PredictionEntry], example: Example, lookup: "_DatasetLookup"
) -> Prediction:
    """Parse all entries of one example."""
    first = entries[0]
    if all(entry.is_object for entry in entries) or (
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
            if key in IMAGE_KEYS or (key == "image_id" and example_id not in self.example_ids):
                example_id = self._id_of_image(example_id, entry)
        if example_id not in self.example_ids:
            raise DataError(
                f"{entry.location}: id {example_id!r} is not in split {self.dataset.split!r} of "
                f"{self.dataset.name}. Use predictions for the evaluated data and split."
            )
        return example_id

    def class_name(self, entry: _PredictionEntry) -> str:
        """Return the class of an object; empty without `category_id` (referring expressions)."""
        if "category_id" in entry.fields:
            category_id = str(entry.fields["category_id"])
            if category_id not in self._class_name_by_id:
                raise DataError(
                    f"{entry.location}: category_id {category_id} is not a class id of "
                    f"data={self.dataset.source.name}. Write the name of the class as 'category'."
                )
            return self._class_name_by_id[category_id]
        if "category" in entry.fields:
            name = entry.fields["category"]
            classes = self.dataset.examples.row(0).classes or ()
            if not isinstance(name, str) or (classes and name not in classes):
                raise DataError(
                    f"{entry.location}: category must be a class of {self.dataset.name} "
                    f"({', '.join(classes[:20])}), got {reprlib.repr(name)}. Remove objects of "
                    "other classes."
                )
            return name
        return ""

    def _id_of_image(self, name: str, entry: _PredictionEntry) -> str:
        """Return the id of the only example of an image; `name` itself if there is none."""
        file = Path(name).name
        ids = self._ids_by_image.get(file) or self._ids_by_image.get(Path(file).stem) or [name]
        if len(ids) > 1:
            raise DataError(
                f"{entry.location}: image {file!r} has {len(ids)} examples in {self.dataset.name}, "
                f"{ids[0]!r} and {ids[1]!r}. Give the id of the example as 'id'."
            )
        return ids[0]

    @cached_property
    def _class_name_by_id(self) -> dict[str, str]:
        class_ids = self.dataset.source.class_ids(self.dataset.split)
        return {str(class_id): name for name, class_id in class_ids.items()}

    @cached_property
    def _ids_by_image(self) -> dict[str, list[str]]:
        """Example ids by the name of the image file, with and without its ending."""
        ids: dict[str, dict[str, None]] = {}
        for index in range(len(self.dataset.examples)):
            example = self.dataset.examples[index]
            file = Path(example.images[0])
            for name in (file.name, file.stem):
                ids.setdefault(name, {})[example.id] = None
        return {name: list(of_image) for name, of_image in ids.items()}
