"""Predictions for large images: each tile is one prompt, and the answers are merged per image.

The tiles of all images form one sequence, which is batched like the images of other evaluations.
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, overload

from palitune.data.collator import Collator
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import predict_batches, split_batches
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.merging import merge_objects, place_in_image
from palitune.records import Example, Instance, Prediction, Tile
from palitune.tasks import Task

log = logging.getLogger(__name__)


def predict_examples(
    network: Any,
    collator: Collator,
    task: Task,
    examples: Sequence[Example],
    batches: Sequence[list[int]],
    settings: EvaluationConfig,
    *,
    with_references: bool = False,
    skip_unreadable: bool = False,
) -> Iterator[tuple[list[int], list[Prediction | DataError]]]:
    """Yield results as `predict_batches` does, tile by tile if `evaluation.tiles` is set.

    The arguments are those of `predict_batches`. With tiles, the yielded batches are the images
    whose last tile was answered.

    Raises DataError for a task without boxes.
    """
    if settings.tiles is None:
        yield from predict_batches(
            network, collator, task, examples, batches, settings,
            with_references=with_references, skip_unreadable=skip_unreadable,
        )  # fmt: skip
        return
    check_task(task)
    indices = [index for batch in batches for index in batch]
    parts = TilesOfExamples(examples, indices, settings.tiles)
    if collectives.is_main_process():
        log.info("%d images in %d tiles of %s", len(indices), len(parts), settings.tiles.describe())
    answered: list[Prediction | DataError] = []
    num_done = num_malformed = 0
    for batch, results in predict_batches(
        network, collator, task, parts, split_batches(len(parts), settings.batch_size), settings,
        skip_unreadable=skip_unreadable,
    ):  # fmt: skip
        num_malformed += sum(isinstance(r, Prediction) and r.value is None for r in results)
        answered += _in_order(batch, results)
        finished, merged = [], list[Prediction | DataError]()
        while num_done < len(indices) and len(answered) >= len(parts.grids[num_done]):
            grid = parts.grids[num_done]
            own, answered = answered[: len(grid)], answered[len(grid) :]
            merged.append(merge_answers(examples[indices[num_done]], grid, own, settings.tiles))
            finished.append(indices[num_done])
            num_done += 1
        if finished:
            yield finished, merged
    if num_malformed:
        log.warning(
            "%d of %d tiles have malformed answers and no objects",
            num_malformed,
            len(parts),
        )


def check_task(task: Task) -> None:
    """Raise DataError if the answers of a task are no objects that could be merged."""
    if not task.allow_crop:
        raise DataError(
            "evaluation.tiles must be null for a task without the boxes of all objects, got "
            f"{task.name}. Set task=detection or task=segmentation, or evaluation.tiles=null."
        )


class TilesOfExamples(Sequence[Example]):
    """The tiles of some examples one after the other, each made when it is read.

    The id of a tile is its position.

    Args:
        examples: Examples of whole images.
        indices: The examples to cut, in this order.
        tiles: Size and overlap.

    Raises:
        DataError: An image has too many tiles.
    """

    def __init__(
        self, examples: Sequence[Example], indices: Sequence[int], tiles: InferenceTiles
    ) -> None:
        self.examples, self.indices = examples, indices
        self.grids = [grid_of(examples[index], tiles) for index in indices]
        self._ends = list(accumulate(map(len, self.grids)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = bisect_right(self._ends, index)
        grid = self.grids[number]
        tile = grid[index - self._ends[number] + len(grid)]
        example = self.examples[self.indices[number]]
        return replace(cut_example(example, tile, len(grid)), id=str(index))


def grid_of(example: Example, tiles: InferenceTiles) -> list[Tile]:
    """Return the tiles of an image. Raises DataError if there are too many."""
    try:
        return tiles.grid(example.size)
    except ValueError as error:
        raise DataError(f"{example.location}: {error}") from error


def cut_example(example: Example, tile: Tile, num_tiles: int) -> Example:
    """Return the example of one tile; that of the only tile is the example of the whole image."""
    if num_tiles == 1:
        return example
    left, top = example.tile[:2] if example.tile else (0, 0)
    x0, y0, x1, y1 = tile
    return replace(
        example,
        size=(x1 - x0, y1 - y0),
        tile=(x0 + left, y0 + top, x1 + left, y1 + top),
        location=f"{example.location}, tile at {x0},{y0}",
        suffixes=(),
        reference=(),
    )


def merge_answers(
    example: Example,
    grid: Sequence[Tile],
    answers: Sequence[Prediction | DataError],
    settings: InferenceTiles,
) -> Prediction | DataError:
    """Return the prediction of an image from those of its tiles, or the first error.

    The text has the answers of all tiles, with coordinates in the tiles. The image is malformed
    only if every tile is.

    Args:
        example: The whole image.
        grid: Its tiles.
        answers: The prediction for each tile.
        settings: How objects are merged.
    """
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    if len(predictions) < len(answers):
        return next(answer for answer in answers if isinstance(answer, DataError))
    if len(grid) == 1:
        return replace(predictions[0], id=example.id)
    placed = [
        place_in_image(item, tile, example.size)
        for tile, prediction in zip(grid, predictions, strict=True)
        for item in prediction.value or ()
        if isinstance(item, Instance)
    ]
    malformed = all(prediction.value is None for prediction in predictions)
    texts = [prediction.text.strip() for prediction in predictions]
    return Prediction(
        id=example.id,
        text=" ; ".join(filter(None, texts)),
        value=None if malformed else merge_objects(placed, settings),
        finished=all(prediction.finished for prediction in predictions),
        confidence=_geometric_mean([prediction.confidence for prediction in predictions]),
    )


def _geometric_mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    if not all(numbers):
        return 0.0
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def _in_order(
    batch: Sequence[int], results: Sequence[Prediction | DataError]
) -> Iterator[Prediction | DataError]:
    """Yield the result of each tile of a batch; errors, which come first, have no id."""
    predictions = {result.id: result for result in results if isinstance(result, Prediction)}
    errors = iter([result for result in results if isinstance(result, DataError)])
    for index in batch:
        yield predictions[str(index)] if str(index) in predictions else next(errors)
