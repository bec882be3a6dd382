"""Result files for test servers and official evaluation programs.

| `evaluation.submission` | keys of an entry | read by |
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

Ids are those of the dataset: the `id` column of records, COCO's image and category ids, the
`ref_id` and `sent_id` of referring expressions.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import format_json
from palitune.errors import DataError
from palitune.evaluation.config import Submission
from palitune.records import Example, Instance, Prediction, mask_to_json

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset

log = logging.getLogger(__name__)

SUBMISSION_FILE = "submission.json"

SubmissionEntry = dict[str, Any]
EntryWriter = Callable[[Example, Prediction], Iterator[SubmissionEntry]]
"""Yields the entries of one example."""


def check_submission(kind: Submission | None, datasets: "Sequence[TaskDataset]") -> None:
    """Raise DataError if a submission of this kind cannot be written; None: no submission."""
    if kind is None:
        return
    if len(datasets) != 1:
        raise DataError(
            f"evaluation.submission={kind.value} needs exactly one dataset, got {len(datasets)}. "
            "Evaluate them one by one."
        )
    dataset = datasets[0]
    predicts_text = isinstance(dataset.task.parse("", (1, 1)), str)
    requires_text = kind not in _OBJECT_SUBMISSIONS
    if predicts_text != requires_text:
        content = {True: "text", False: "objects"}
        raise DataError(
            f"evaluation.submission={kind.value} contains {content[requires_text]}, but task "
            f"{dataset.task.name} predicts {content[predicts_text]}. Choose another submission."
        )
    example = dataset.examples[0]
    empty = Prediction(id=example.id, text="", value="" if predicts_text else ())
    list(_entry_writer(kind, dataset)(example, empty))


def write_submission(
    folder: Path, kind: Submission, dataset: "TaskDataset", predictions: Sequence[Prediction]
) -> Path:
    """Write `submission.json` and return its path.

    Args:
        folder: Run folder.
        kind: Kind of submission.
        dataset: The evaluated dataset.
        predictions: Predictions for its first examples.
    """
    entry_writer = _entry_writer(kind, dataset)
    entries = [
        entry
        for index, prediction in enumerate(predictions)
        for entry in entry_writer(dataset.examples[index], prediction)
    ]
    file = folder / SUBMISSION_FILE
    file.write_text(format_json(entries), encoding="utf-8")
    log.info("submission for %s: %s", kind.value, file)
    if len(predictions) < len(dataset.examples):
        log.warning(
            "%s contains %d of %d examples, but test servers require all of them. Remove "
            "evaluation.max_samples.", file, len(predictions), len(dataset.examples),
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
            f"evaluation.submission={kind.value} needs numeric class ids, but "
            f"data={dataset.source.name} has none. Use data=coco."
        )
    return partial(_coco_entries, ids, kind is Submission.coco_segmentation)


def _text_entry(
    id_key: str, text_key: str, example: Example, prediction: Prediction
) -> Iterator[SubmissionEntry]:
    yield {id_key: _integer_id(example.id, example), text_key: _answer_text(prediction)}


def _vizwiz_entry(example: Example, prediction: Prediction) -> Iterator[SubmissionEntry]:
    yield {"image": Path(example.images[0]).name, "answer": _answer_text(prediction)}


def _coco_entries(
    class_ids: Mapping[str, int | str],
    with_masks: bool,
    example: Example,
    prediction: Prediction,
) -> Iterator[SubmissionEntry]:
    image_id = _integer_id(example.id, example)
    for instance in _instances(prediction):
        if instance.label in class_ids:  # servers reject other classes
            yield {
                "image_id": image_id,
                "category_id": class_ids[instance.label],
                **_geometry(instance, with_box=not with_masks),
                "score": 1.0 if instance.score is None else instance.score,
            }


def _refcoco_entry(example: Example, prediction: Prediction) -> Iterator[SubmissionEntry]:
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


def _answer_text(prediction: Prediction) -> str:
    return prediction.value if isinstance(prediction.value, str) else ""


def _instances(prediction: Prediction) -> list[Instance]:
    return [value for value in prediction.value or () if isinstance(value, Instance)]


def _integer_id(text: str, example: Example) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DataError(
            f"{example.location}: id must be the integer id of the test server, got "
            f"{example.id!r}. Set the column that contains it, e.g. data.columns.id=questionId."
        ) from error


_TEXT_FIELDS = {
    Submission.docvqa: ("questionId", "answer"),
    Submission.infovqa: ("questionId", "answer"),
    Submission.stvqa: ("question_id", "answer"),
    Submission.vqav2: ("question_id", "answer"),
    Submission.textvqa: ("question_id", "answer"),
    Submission.coco_captions: ("image_id", "caption"),
}
"""Keys of the id and of the text."""
_OBJECT_SUBMISSIONS = {Submission.coco_detection, Submission.coco_segmentation, Submission.refcoco}
