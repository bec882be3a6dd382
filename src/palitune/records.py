"""The records that all modules share (Instance, Row, Example, Prediction) and their JSON.

Boxes are `(x0, y0, x1, y1)` in pixels of the upright image (EXIF orientation applied), origin at
the top left corner, x1 and y1 exclusive, so that width = x1 - x0.
"""

import reprlib
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from palitune.codec.run_lengths import decode_run_lengths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
else:  # so that reading a configuration does not import numpy
    Mask = Any

Box = tuple[float, float, float, float]
Size = tuple[int, int]
Tile = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the upright image."""

_MAX_NUMBER = 1e300
"""Magnitude of the numbers in files; integers too long for a float stay out of the arithmetic."""
_ROUNDING = 1e-6
"""Amount by which the mean probability of tokens may exceed 1 in float32."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One object in an image."""

    label: str
    box: Box
    """x0, y0, x1, y1 in pixels."""
    mask: Mask | None = None
    """(height, width) bool over the whole image; None if only the box is known."""
    score: float | None = None
    """Confidence in [0, 1] of a predicted instance; None for a reference."""
    crowd: bool = False
    """A region of many objects that the annotators did not separate (COCO's `iscrowd`)."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instance) or (self.label, self.box, self.score, self.crowd) != (
            other.label, other.box, other.score, other.crowd
        ):  # fmt: skip
            return False
        if self.mask is None or other.mask is None:
            return self.mask is other.mask
        return self.mask.shape == other.mask.shape and bool((self.mask == other.mask).all())

    def __hash__(self) -> int:
        return hash((self.label, self.box))


Value = str | tuple[Instance, ...]
"""Parsed output of the model: an answer, or objects."""
Reference = tuple[str, ...] | tuple[Instance, ...]
"""Ground truth for scoring: all acceptable answers, or all objects of the image."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One annotated record of a data source; None: the record does not have this column."""

    id: str
    images: tuple[str, ...]
    """Absolute paths of the image files."""
    size: Size
    """(width, height) in pixels of the first image, upright."""
    location: str
    """Place of the record for error messages, as a file and line or a file and image id."""
    prefix: str | None = None
    suffix: str | None = None
    question: str | None = None
    answers: tuple[str, ...] | None = None
    choices: tuple[str, ...] | None = None
    hint: str | None = None
    """Text that accompanies the question."""
    captions: tuple[str, ...] | None = None
    language: str | None = None
    """Language code of the captions, if the data has several languages."""
    text: str | None = None
    json: str | None = None
    """Fields of a document as the text of a JSON object."""
    expression: str | None = None
    """Referring expression of the instances: "the boat on the left"."""
    instances: tuple[Instance, ...] | None = None
    classes: tuple[str, ...] | None = None
    """All classes of the source, in its order; None if the source has no class list."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Slices to report metrics by, e.g. {"question_type": "count"}; not used by tasks."""
    tile: Tile | None = None
    """Part of the only image that the row is about; `size` and instances are those of the part.
    None: the whole image."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt with its targets, written by a task and tokenized by the collator."""

    id: str
    images: tuple[str, ...]
    size: Size
    prefix: str
    suffixes: tuple[str, ...]
    """All acceptable targets; `training.target_sampling` chooses among them. Empty if the data has
    no references, and then usable for predictions only."""
    reference: Reference
    location: str
    component: str = ""
    """Name of the data set in the mixture; without a mixture, name of the task."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Slices to report metrics by, from the row."""
    choices: tuple[str, ...] = ()
    """Possible answers, in the order of the prompt if it lists them."""
    marked_box: Box | None = None
    """Box in pixels of the first image that is outlined in red in the model's input."""
    tile: Tile | None = None
    """Part of the only image that the model sees; `size` and boxes are those of the part. None: the
    whole image."""
    no_loss_spans: tuple[tuple[int, int], ...] = ()
    """Character spans [start, end) of the only suffix that are excluded from the loss."""


class Likelihood(NamedTuple):
    """Log-likelihood of the references of one example under a model."""

    log_prob: float
    """Sum over the tokens of all references, in nats."""
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The generated text for one example, parsed by the task. Metrics score it."""

    id: str
    """Id of the example."""
    text: str
    """Empty if a file of predictions lists objects instead of text."""
    value: Value | None
    """None if the text is malformed: counted, scored as an empty answer, shown in the report."""
    finished: bool = True
    """False if the text was cut off at `task.max_new_tokens`."""
    confidence: float | None = None
    """Geometric mean of the token probabilities, or the probability of a choice among all choices.
    None if it is unknown."""
    field_confidences: dict[str, float] = field(default_factory=dict)
    """The same for every field of a JSON answer, by path, e.g. `items[0].price`."""
    repairs: tuple[str, ...] = ()
    """Repairs without which a JSON answer could not be parsed, a phrase each."""
    likelihood: Likelihood | None = None
    """None unless `evaluation.perplexity` is set."""
    missing: bool = False
    """True if the file of predictions has no entry for this example."""


def mask_to_json(mask: Mask) -> dict[str, Any]:
    """Return a mask as COCO's compressed RLE: `{"size": [height, width], "counts": "..."}`."""
    import numpy as np
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask).view(np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": rle["counts"].decode("ascii")}


def mask_from_json(data: dict[str, Any], size: Size | None = None) -> Mask:
    """Invert `mask_to_json`. Raises ValueError if the mask is damaged or not of this size."""
    return decode_run_lengths(data, size)


def instance_to_json(instance: Instance) -> dict[str, Any]:
    """Return label, box and the fields that are set."""
    data: dict[str, Any] = {"label": instance.label, "box": list(instance.box)}
    if instance.score is not None:
        data["score"] = instance.score
    if instance.crowd:
        data["crowd"] = True
    if instance.mask is not None:
        data["mask"] = mask_to_json(instance.mask)
    return data


def instance_from_json(data: dict[str, Any], size: Size | None = None) -> Instance:
    """Invert `instance_to_json`.

    Args:
        data: The parsed JSON.
        size: (width, height) in pixels of the image, which a mask must have; None: any.

    Raises:
        ValueError: A field is missing or invalid.
    """
    if not isinstance(data, dict) or not isinstance(data.get("label"), str):
        raise ValueError("an object must have a label and a box")
    return Instance(
        label=data["label"],
        box=check_box(data.get("box")),
        mask=mask_from_json(data["mask"], size) if "mask" in data else None,
        score=check_score(data.get("score")),
        crowd=data.get("crowd", False) is True,
    )


def check_four_numbers(values: Any) -> tuple[float, float, float, float]:
    """Return four numbers of a file. Raises ValueError if they are not four finite numbers."""
    if (
        not isinstance(values, list | tuple)
        or len(values) != 4
        or not all(map(_is_finite_number, values))
    ):
        raise ValueError(f"a box must be four finite numbers, got {reprlib.repr(values)}")
    first, second, third, fourth = values
    return first, second, third, fourth


def check_box(box: Any) -> Box:
    """Return the corners of a box. Raises ValueError unless they are numbers in this order."""
    x0, y0, x1, y1 = check_four_numbers(box)
    if x1 < x0 or y1 < y0:
        raise ValueError(
            f"a box must have a width and a height of at least 0, got the corners {list(box)}"
        )
    return x0, y0, x1, y1


def check_score(score: Any) -> float | None:
    """Return the score of a predicted object. Raises ValueError if it is not in [0, 1]."""
    if score is not None and not (_is_finite_number(score) and 0 <= score <= 1 + _ROUNDING):
        raise ValueError(f"a score must be a number in [0, 1], got {reprlib.repr(score)}")
    return None if score is None else float(score)


def _is_finite_number(value: Any) -> bool:
    """Return whether a JSON value is a number; integers too long for a float are none."""
    return type(value) in (int, float) and abs(value) < _MAX_NUMBER and isfinite(value)


def value_to_json(value: Value | Reference | None) -> Any:
    """Return strings and None unchanged, and instances as JSON objects."""
    if value is None or isinstance(value, str):
        return value
    return [item if isinstance(item, str) else instance_to_json(item) for item in value]


def value_from_json(data: Any, size: Size | None = None) -> Any:
    """Invert `value_to_json`; the type is that of the written value.

    `size` and errors are those of `instance_from_json`.
    """
    if data is None or isinstance(data, str):
        return data
    if not isinstance(data, list | tuple):
        raise ValueError(f"a value must be text, objects or null, got {reprlib.repr(data)}")
    return tuple(item if isinstance(item, str) else instance_from_json(item, size) for item in data)


def row_to_json(row: Row) -> dict[str, Any]:
    """Return the columns that the row has."""
    data = vars(row) | {"instances": value_to_json(row.instances)}
    return {name: value for name, value in data.items() if value is not None}


def row_from_json(data: dict[str, Any]) -> Row:
    """Invert `row_to_json`; JSON lists become tuples."""
    columns: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    if "instances" in columns:
        columns["instances"] = value_from_json(data["instances"])
    return Row(**columns)


def prediction_to_json(
    prediction: Prediction,
    example: Example,
    component: str,
    scores: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Return a record of `predictions.jsonl`: an example with its prediction and scores.

    Scoring a record that was read back gives the same metrics, because JSON keeps floats and masks
    exactly.
    """
    optional = {"confidence": prediction.confidence, "likelihood": prediction.likelihood}
    return {
        "id": example.id,
        "part": component,
        "images": list(example.images),
        "size": list(example.size),
        "prefix": example.prefix,
        "suffixes": list(example.suffixes),
        "attributes": example.attributes,
        "text": prediction.text,
        "prediction": value_to_json(prediction.value),
        "reference": value_to_json(example.reference),
        "scores": scores or {},
        "malformed": prediction.value is None,
        "finished": prediction.finished,
        **{name: value for name, value in optional.items() if value is not None},
        **(
            {"field_confidences": prediction.field_confidences}
            if prediction.field_confidences
            else {}
        ),
        **({"repairs": list(prediction.repairs)} if prediction.repairs else {}),
        **({"missing": True} if prediction.missing else {}),
    }


def prediction_from_json(record: dict[str, Any], size: Size | None = None) -> Prediction:
    """Invert `prediction_to_json`.

    `size` is that of `instance_from_json`. Raises ValueError or KeyError for an invalid record.
    """
    text = record["text"]
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {reprlib.repr(text)}")
    return Prediction(
        id=record["id"],
        text=text,
        value=value_from_json(record["prediction"], size),
        finished=record.get("finished", True) is True,
        confidence=check_score(record.get("confidence")),
        field_confidences=field_confidences_from_json(record.get("field_confidences")),
        repairs=repairs_from_json(record.get("repairs")),
        likelihood=_likelihood_from_json(record.get("likelihood")),
        missing=record.get("missing", False) is True,
    )


def field_confidences_from_json(data: Any) -> dict[str, float]:
    """Return the confidences of fields of a record. Raises ValueError if they are invalid."""
    if data is None:
        return {}
    if not isinstance(data, dict) or None in data.values():
        raise ValueError(f"field_confidences must be scores by field, got {reprlib.repr(data)}")
    return {path: check_score(score) or 0.0 for path, score in data.items()}


def repairs_from_json(data: Any) -> tuple[str, ...]:
    """Return the repairs of a record. Raises ValueError if they are not texts."""
    if data is None:
        return ()
    if not isinstance(data, list) or not all(isinstance(repair, str) for repair in data):
        raise ValueError(f"repairs must be a list of texts, got {reprlib.repr(data)}")
    return tuple(data)


def _likelihood_from_json(data: Any) -> Likelihood | None:
    if data is None:
        return None
    if not (
        isinstance(data, list | tuple)
        and len(data) == 2
        and all(map(_is_finite_number, data))
        and type(data[1]) is int
    ):
        raise ValueError(
            f"likelihood must be a log-probability and a number of tokens, got {reprlib.repr(data)}"
        )
    return Likelihood(*data)
