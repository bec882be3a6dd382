"""Checks of a loaded model before it serves: tokens and mask, and its stored predictions."""

import io
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from PIL import Image

from palitune.codec.parsing import parse_json
from palitune.data.collator import Collator
from palitune.data.images.io import EncodedImage
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.evaluation.answering import Question, answer
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.predict_tiles import grid_of
from palitune.evaluation.tiles.questions import cut_question, merge_predictions
from palitune.models.config import Network
from palitune.records import Example, Prediction
from palitune.tasks import Task
from palitune.training.self_check import check_mask, check_padding, check_special_tokens

_PROBE_SUFFIXES = ("a b", "a b c d e f")


def check_model(network: Network, collator: Collator) -> list[str]:
    """Check tokens, attention mask and padding on two made-up rows; return a sentence for each.

    Raises SelfCheckError at the first failure.
    """
    samples = [_probe(suffix) for suffix in _PROBE_SUFFIXES]
    return [
        check_special_tokens(collator),
        *check_mask(network, collator.collate_train(samples), samples),
        check_padding(network, collator, samples),
    ]


def replay_predictions(
    network: Network,
    collator: Collator,
    file: Path,
    tasks: Mapping[str, Task],
    settings: EvaluationConfig,
    count: int,
) -> str:
    """Generate stored predictions again and return a sentence with the number of equal answers.

    Args:
        network: Model with the adapter of the run.
        collator: Makes batches.
        file: `predictions.jsonl` of the run.
        tasks: Task of each component of the data.
        settings: Evaluation settings of the run.
        count: Most predictions to compare.
    """
    expected: list[str] = []
    questions: list[Question] = []
    try:
        with file.open("rb") as lines:
            for line in islice(lines, count):
                record = parse_json(line)
                if record["part"] in tasks and all(map(os.path.isfile, record["images"])):
                    expected.append(record["text"])
                    questions.append(_stored_question(record, tasks[record["part"]], settings))
    except (KeyError, TypeError, ValueError, OSError) as error:
        return f"stored predictions: not compared ({file} is damaged: {error})"
    if not questions:
        return f"stored predictions: none of {file} can be generated again (images are elsewhere)"
    try:
        predictions = [
            prediction
            for part in _answerable(questions, settings.tiles, count)
            for prediction in _answer(network, collator, part, settings)
        ]
    except DataError as error:
        return f"stored predictions: not compared ({error})"
    pairs = zip(predictions, expected, strict=False)  # of large images only the first ones
    identical = sum(prediction.text == text for prediction, text in pairs)
    return f"stored predictions: {identical} of {len(predictions)} identical"


def _answerable(
    questions: Sequence[Question], tiles: InferenceTiles | None, count: int
) -> list[list[Question]]:
    """Return batches of questions: all in one, or with tiles one each up to `count` tiles."""
    if tiles is None:
        return [list(questions)]
    batches: list[list[Question]] = []
    num_tiles = 0
    for question in questions:
        batches.append([question])
        num_tiles += len(grid_of(question.example, tiles)) if question.tiles else 1
        if num_tiles >= count:
            break
    return batches


def _answer(
    network: Network, collator: Collator, questions: Sequence[Question], settings: EvaluationConfig
) -> list[Prediction]:
    """Answer questions; one with tiles is alone in its batch."""
    tiles = questions[0].tiles
    if tiles is None:
        return answer(network, collator, questions, num_beams=settings.num_beams)
    predictions: list[Prediction] = []
    parts = cut_question(questions[0], tiles)
    for start in range(0, len(parts), settings.batch_size):
        part = parts[start : start + settings.batch_size]
        predictions += answer(network, collator, part, num_beams=settings.num_beams)
    return [merge_predictions(questions[0], tiles, predictions)]


def _probe(suffix: str) -> TrainingSample:
    file = io.BytesIO()
    Image.radial_gradient("L").save(file, "PNG")
    example = Example(
        id="probe",
        images=(EncodedImage(file.getvalue()),),
        size=(256, 256),
        prefix="caption en",
        suffixes=(suffix,),
        reference=(suffix,),
        location="self-check",
    )
    return TrainingSample(example, suffix)


def _stored_question(record: dict[str, object], task: Task, settings: EvaluationConfig) -> Question:
    example = Example(
        id=str(record["id"]),
        images=tuple(record["images"]),  # type: ignore[arg-type]
        size=tuple(record["size"]),  # type: ignore[arg-type]
        prefix=str(record["prefix"]),
        suffixes=(),
        reference=(),
        location="stored prediction",
    )
    return Question(
        example=example,
        task=task,
        constrained=settings.constrained_decoding,
        tiles=settings.tiles if task.allow_crop else None,
    )
