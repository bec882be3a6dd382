"""Questions about an image in memory, tile by tile: for the server."""

import io
from collections.abc import Sequence
from dataclasses import replace

from palitune.data.images.io import EncodedImage, open_image
from palitune.evaluation.answering import Question
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.predict_tiles import cut_example, grid_of, merge_answers
from palitune.records import Prediction


def cut_question(question: Question, tiles: InferenceTiles) -> list[Question]:
    """Return the question about each tile of an image, which is decoded once.

    Raises DataError if the image cannot be decoded, or has too many tiles.
    """
    example = question.example
    grid = grid_of(example, tiles)
    if len(grid) == 1:
        return [question]
    image = open_image(example.images[0])
    questions = []
    for tile in grid:
        file = io.BytesIO()
        image.crop(tile).save(file, "BMP")  # neither loss nor time for compression
        part = cut_example(example, tile, len(grid))
        part = replace(part, images=(EncodedImage(file.getvalue()),), tile=None)
        questions.append(replace(question, example=part))
    return questions


def merge_predictions(
    question: Question, tiles: InferenceTiles, predictions: Sequence[Prediction]
) -> Prediction:
    """Return the prediction for the whole image from those of `cut_question`."""
    merged = merge_answers(question.example, grid_of(question.example, tiles), predictions, tiles)
    assert isinstance(merged, Prediction)
    return merged
