"""Result files as test servers and official programs want them.

| `evaluation.submission` | an entry | who takes it |
|---|---|---|
| `docvqa`, `infovqa` | `questionId`, `answer` | Robust Reading Competition, challenge 17 |
| `stvqa` | `question_id`, `answer` | Robust Reading Competition, challenge 11 |
| `vqav2`, `textvqa` | `question_id`, `answer` | EvalAI |
| `vizwiz` | `image` (`VizWiz_test_00000000.jpg`), `answer` | EvalAI |
| `coco_captions` | `image_id`, `caption` | COCO's server, pycocoevalcap |
| `coco_detection` | `image_id`, `category_id`, `bbox`, `score` | COCO's server, pycocotools |
| `coco_segmentation` | the same with `segmentation` for `bbox` | COCO's server, pycocotools |
| `refcoco` | `ref_id`, `sent_id`, `bbox`, with masks `segmentation` | no server |

A `bbox` is [x, y, width, height] in pixels, a `segmentation` COCO's compressed run lengths.

Numbers are the data's own ids: the `id` column of records, COCO's image and category ids, the
`ref_id` and `sent_id` of expressions.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.errors import DataError
from palitune.evaluation.config import Submission
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.records import Example, Instance, mask_to_json

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

SUBMISSION_FILE = "submission.json"

SubmissionEntry = dict[str, Any]
EntryWriter = Callable[[Example, PredictionRecord], Iterator[SubmissionEntry]]
"""Writes what a file says of one example."""


def check_submission(kind: Submission | None, datasets: "Sequence[TaskDataset]") -> None:
    """Raise DataError if the examples cannot be written as this kind of file; None: no file."""
    if kind is None:
        return
    if len(datasets) != 1:
        raise DataError(
            f"evaluation.submission={kind.value} is of one data set, and there are {len(datasets)}; "
            "evaluate them one by one"
        )
    part = datasets[0]
    writes_text = isinstance(part.task.parse("", (1, 1)), str)
    wants_text = kind not in _OBJECT_SUBMISSIONS
    if writes_text != wants_text:
        kinds = {True: "texts", False: "objects"}
        raise DataError(
            f"evaluation.submission={kind.value} is a file of {kinds[wants_text]}, and the answers "
            f"of task {part.task.name} are {kinds[writes_text]}; choose another one"
        )
    empty = PredictionRecord(text="", value="" if writes_text else ())
    list(_entry_writer(kind, part)(part.examples[0], empty))


def write_submission(
    folder: Path, kind: Submission, dataset: "TaskDataset", predictions: Sequence[PredictionRecord]
) -> Path:
    """Write the answers to the first examples of a part into the folder; return the file."""
    entries = _entry_writer(kind, dataset)
    examples = (dataset.examples[index] for index in range(len(predictions)))
    written = [
        entry
        for example, answer in zip(examples, predictions, strict=True)
        for entry in entries(example, answer)
    ]
    file = folder / SUBMISSION_FILE
    file.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    log.info("results for %s: %s", kind.value, file)
    if len(predictions) < len(dataset.examples):
        log.warning(
            "%s holds %d of %d examples, and a server wants them all; leave out evaluation.max_samples",
            file, len(predictions), len(dataset.examples),
        )  # fmt: skip
    return file


def _entry_writer(kind: Submission, dataset: "TaskDataset") -> EntryWriter:
    if kind in _TEXT_FIELDS:
        return partial(_text_entry, *_TEXT_FIELDS[kind])
    if kind is Submission.vizwiz:
        return _vizwiz_entry
    if kind is Submission.refcoco:
        return _refcoco_entry
    ids = dataset.source.class_ids(dataset.split)
    if not ids:
        raise DataError(
            f"evaluation.submission={kind.value} names classes by their numbers, and data="
            f"{dataset.source.name} has none; it takes data=coco"
        )
    return partial(_coco_entries, ids, kind is Submission.coco_segmentation)


def _text_entry(
    id_key: str, text_key: str, example: Example, prediction: PredictionRecord
) -> Iterator[SubmissionEntry]:
    yield {id_key: _integer_id(example.id, example), text_key: _answer_text(prediction)}


def _vizwiz_entry(example: Example, prediction: PredictionRecord) -> Iterator[SubmissionEntry]:
    yield {"image": Path(example.images[0]).name, "answer": _answer_text(prediction)}


def _coco_entries(
    class_ids: Mapping[str, int | str],
    with_masks: bool,
    example: Example,
    prediction: PredictionRecord,
) -> Iterator[SubmissionEntry]:
    image = _integer_id(example.id, example)
    for instance in _instances(prediction):
        if instance.label in class_ids:  # the server knows no other class
            yield {
                "image_id": image,
                "category_id": class_ids[instance.label],
                **_geometry(instance, with_box=not with_masks),
                "score": 1.0 if instance.score is None else instance.score,
            }


def _refcoco_entry(example: Example, prediction: PredictionRecord) -> Iterator[SubmissionEntry]:
    ref, _, sentence = example.id.partition("-")
    ids = {"ref_id": _integer_id(ref, example), "sent_id": _integer_id(sentence, example)}
    for instance in _instances(prediction)[:1]:
        yield ids | _geometry(instance, with_box=True)


def _geometry(instance: Instance, *, with_box: bool) -> SubmissionEntry:
    x0, y0, x1, y1 = instance.box
    shape: SubmissionEntry = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if with_box else {}
    if instance.mask is not None:
        shape["segmentation"] = mask_to_json(instance.mask)
    return shape


def _answer_text(prediction: PredictionRecord) -> str:
    return prediction.value if isinstance(prediction.value, str) else ""


def _instances(prediction: PredictionRecord) -> list[Instance]:
    return [one for one in prediction.value or () if isinstance(one, Instance)]


def _integer_id(text: str, example: Example) -> int:
    try:
        return int(text)
    except ValueError as mistake:
        raise DataError(
            f"{example.location}: id {example.id!r} has to be the number that the test server knows; "
            "name the column that holds it, e.g. data.columns.id=questionId"
        ) from mistake


_TEXT_FIELDS = {
    Submission.docvqa: ("questionId", "answer"),
    Submission.infovqa: ("questionId", "answer"),
    Submission.stvqa: ("question_id", "answer"),
    Submission.vqav2: ("question_id", "answer"),
    Submission.textvqa: ("question_id", "answer"),
    Submission.coco_captions: ("image_id", "caption"),
}
"""What the id and the text are called."""
_OBJECT_SUBMISSIONS = {Submission.coco_detection, Submission.coco_segmentation, Submission.refcoco}
