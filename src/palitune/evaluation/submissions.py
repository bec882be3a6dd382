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

from palitune.evaluation.records import Answer
from palitune.evaluation.settings import Submission
from palitune.examples import DataError, Example, Instance, mask_to_json

if TYPE_CHECKING:
    from palitune.data.dataset import Part

log = logging.getLogger(__name__)

FILE = "submission.json"

Entry = dict[str, Any]
Entries = Callable[[Example, Answer], Iterator[Entry]]
"""Writes what a file says of one example."""


def check(kind: Submission, parts: "Sequence[Part]") -> None:
    """Refuse examples that cannot be written as this kind of file."""
    if len(parts) != 1:
        raise DataError(
            f"evaluation.submission={kind.value} is of one data set, and there are {len(parts)}; "
            "evaluate them one by one"
        )
    part = parts[0]
    writes_text = isinstance(part.task.parse("", (1, 1)), str)
    wants_text = kind not in _OBJECTS
    if writes_text != wants_text:
        kinds = {True: "texts", False: "objects"}
        raise DataError(
            f"evaluation.submission={kind.value} is a file of {kinds[wants_text]}, and the answers "
            f"of task {part.task.name} are {kinds[writes_text]}; choose another one"
        )
    empty = Answer(text="", value="" if writes_text else ())
    list(_entries(kind, part)(part.examples[0], empty))


def write(folder: Path, kind: Submission, part: "Part", answers: Sequence[Answer]) -> Path:
    """Write the answers to the first examples of a part into the folder; return the file."""
    entries = _entries(kind, part)
    examples = (part.examples[index] for index in range(len(answers)))
    written = [
        entry
        for example, answer in zip(examples, answers, strict=True)
        for entry in entries(example, answer)
    ]
    file = folder / FILE
    file.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
    log.info("results for %s: %s", kind.value, file)
    if len(answers) < len(part.examples):
        log.warning(
            "%s holds %d of %d examples, and a server wants them all; leave out evaluation.limit",
            file, len(answers), len(part.examples),
        )  # fmt: skip
    return file


def _entries(kind: Submission, part: "Part") -> Entries:
    if kind in _TEXTS:
        return partial(_text, *_TEXTS[kind])
    if kind is Submission.vizwiz:
        return _vizwiz
    if kind is Submission.refcoco:
        return _referred
    ids = part.source.class_ids(part.split)
    if not ids:
        raise DataError(
            f"evaluation.submission={kind.value} names classes by their numbers, and data="
            f"{part.source.name} has none; it takes data=coco"
        )
    return partial(_found, ids, kind is Submission.coco_segmentation)


def _text(id_name: str, text_name: str, example: Example, answer: Answer) -> Iterator[Entry]:
    yield {id_name: _number(example.id, example), text_name: _answered(answer)}


def _vizwiz(example: Example, answer: Answer) -> Iterator[Entry]:
    yield {"image": Path(example.images[0]).name, "answer": _answered(answer)}


def _found(
    ids: Mapping[str, int | str], with_masks: bool, example: Example, answer: Answer
) -> Iterator[Entry]:
    image = _number(example.id, example)
    for instance in _instances(answer):
        if instance.label in ids:  # the server knows no other class
            yield {
                "image_id": image,
                "category_id": ids[instance.label],
                **_shape(instance, box=not with_masks),
                "score": 1.0 if instance.score is None else instance.score,
            }


def _referred(example: Example, answer: Answer) -> Iterator[Entry]:
    ref, _, sentence = example.id.partition("-")
    ids = {"ref_id": _number(ref, example), "sent_id": _number(sentence, example)}
    for instance in _instances(answer)[:1]:
        yield ids | _shape(instance, box=True)


def _shape(instance: Instance, *, box: bool) -> Entry:
    x0, y0, x1, y1 = instance.box
    shape: Entry = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if box else {}
    if instance.mask is not None:
        shape["segmentation"] = mask_to_json(instance.mask)
    return shape


def _answered(answer: Answer) -> str:
    return answer.value if isinstance(answer.value, str) else ""


def _instances(answer: Answer) -> list[Instance]:
    return [one for one in answer.value or () if isinstance(one, Instance)]


def _number(text: str, example: Example) -> int:
    try:
        return int(text)
    except ValueError as mistake:
        raise DataError(
            f"{example.place}: id {example.id!r} has to be the number that the test server knows; "
            "name the column that holds it, e.g. data.columns.id=questionId"
        ) from mistake


_TEXTS = {
    Submission.docvqa: ("questionId", "answer"),
    Submission.infovqa: ("questionId", "answer"),
    Submission.stvqa: ("question_id", "answer"),
    Submission.vqav2: ("question_id", "answer"),
    Submission.textvqa: ("question_id", "answer"),
    Submission.coco_captions: ("image_id", "caption"),
}
"""What the id and the text are called."""
_OBJECTS = {Submission.coco_detection, Submission.coco_segmentation, Submission.refcoco}
