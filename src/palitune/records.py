"""The nouns every other module speaks in: Instance, Row, Example, Prediction; their JSON forms.

Boxes are `(x0, y0, x1, y1)` in pixels of the upright image (EXIF orientation applied), origin at
the top left corner, x1 and y1 exclusive, so that width = x1 - x0.
"""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
else:  # a command line that only reads a configuration does not wait for numpy
    Mask = Any

Box = tuple[float, float, float, float]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Instance:
    """One object in an image: what it is and where."""

    label: str
    box: Box
    """x0, y0, x1, y1 in pixels."""
    mask: Mask | None = None
    """(height, width) bool over the whole image, or None where only the box is known."""
    score: float | None = None
    """Confidence in [0, 1] of a predicted instance; None for a reference."""
    crowd: bool = False
    """A region of many objects that the annotators did not separate (COCO's `iscrowd`)."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Instance) and (
            (self.label, self.box, self.score, self.crowd)
            == (other.label, other.box, other.score, other.crowd)
            and _masks_equal(self.mask, other.mask)
        )

    def __hash__(self) -> int:
        return hash((self.label, self.box))


Value = str | tuple[Instance, ...]
"""What a task reads out of a model's text: an answer, or objects."""
Reference = tuple[str, ...] | tuple[Instance, ...]
"""What a prediction is judged against: every acceptable answer, or all objects of the image."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One annotated record as a data source yields it; None marks a column it does not have."""

    id: str
    images: tuple[str, ...]
    """Absolute paths of the image files."""
    size: Size
    """(width, height) in pixels of the first image, upright."""
    location: str
    """`file:line` (or `file, image id 17`) of the record, for messages."""
    prefix: str | None = None
    suffix: str | None = None
    question: str | None = None
    answers: tuple[str, ...] | None = None
    choices: tuple[str, ...] | None = None
    hint: str | None = None
    """Text that goes with the question."""
    captions: tuple[str, ...] | None = None
    language: str | None = None
    """Code of the language of the captions, where the data has several."""
    text: str | None = None
    expression: str | None = None
    """Words that refer to the instances: "the boat on the left"."""
    instances: tuple[Instance, ...] | None = None
    classes: tuple[str, ...] | None = None
    """Every class the source knows, in its own order; None where the source has no class list."""
    attributes: dict[str, str] = field(default_factory=dict)
    """What numbers are reported by besides, e.g. {"question_type": "count"}; no task reads it."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt with its targets, as a task writes it: what the collator turns into tokens."""

    id: str
    images: tuple[str, ...]
    size: Size
    prefix: str
    suffixes: tuple[str, ...]
    """All acceptable targets; training takes one of them per visit (`training.target_sampling`).
    Empty where the data has no references: there is nothing to learn from or to judge by."""
    reference: Reference
    location: str
    component: str = ""
    """The part of the run it belongs to: a mixture's name for it, else the task's name."""
    attributes: dict[str, str] = field(default_factory=dict)
    """As the row has them: what numbers are reported by besides."""
    choices: tuple[str, ...] = ()
    """Among what the answer is to be found, in the order of the prompt where that lists it."""
    marked_box: Box | None = None
    """Box in pixels of the first image that is outlined in red in what the model sees."""
    no_loss_spans: tuple[tuple[int, int], ...] = ()
    """Characters [start, end) of the one suffix that are read, but carry no loss."""


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
    likelihood: Likelihood | None = None
    """None unless `evaluation.perplexity` is set."""
    missing: bool = False
    """True if the file of predictions has no entry for this example."""


def _masks_equal(first: Mask | None, second: Mask | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.shape == second.shape and bool((first == second).all())


def mask_to_json(mask: Mask) -> dict[str, Any]:
    """Write a mask as COCO's compressed run lengths: `{"size": [height, width], "counts": "..."}`.

    pycocotools takes the object as it is.
    """
    import numpy as np
    from pycocotools import mask as coco_mask

    written = coco_mask.encode(np.asfortranarray(mask).view(np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": written["counts"].decode("ascii")}


def mask_from_json(data: dict[str, Any]) -> Mask:
    """Invert `mask_to_json`."""
    from pycocotools import mask as coco_mask

    decoded: Mask = coco_mask.decode(data).view(bool)
    return decoded


def instance_to_json(instance: Instance) -> dict[str, Any]:
    """Write label, box and what else is set; a mask as `mask_to_json` does."""
    written: dict[str, Any] = {"label": instance.label, "box": list(instance.box)}
    if instance.score is not None:
        written["score"] = instance.score
    if instance.crowd:
        written["crowd"] = True
    if instance.mask is not None:
        written["mask"] = mask_to_json(instance.mask)
    return written


def instance_from_json(data: dict[str, Any]) -> Instance:
    x0, y0, x1, y1 = data["box"]
    return Instance(
        label=data["label"],
        box=(x0, y0, x1, y1),
        mask=mask_from_json(data["mask"]) if "mask" in data else None,
        score=data.get("score"),
        crowd=data.get("crowd", False),
    )


def value_to_json(value: Value | Reference | None) -> Any:
    """Strings stay strings, instances become objects, None stays null."""
    if value is None or isinstance(value, str):
        return value
    return [v if isinstance(v, str) else instance_to_json(v) for v in value]


def value_from_json(data: Any) -> Any:
    """Invert `value_to_json`; the caller knows which of the forms it wrote."""
    if data is None or isinstance(data, str):
        return data
    return tuple(w if isinstance(w, str) else instance_from_json(w) for w in data)


def row_to_json(row: Row) -> dict[str, Any]:
    """Write the columns that the row has."""
    written = {column.name: getattr(row, column.name) for column in fields(row)}
    if row.instances is not None:
        written["instances"] = value_to_json(row.instances)
    return {name: value for name, value in written.items() if value is not None}


def row_from_json(data: dict[str, Any]) -> Row:
    """Invert `row_to_json`, out of JSON, whose lists are the row's tuples."""
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
        **({"missing": True} if prediction.missing else {}),
    }


def prediction_from_json(record: dict[str, Any]) -> Prediction:
    """Invert `prediction_to_json`. Raises KeyError or TypeError for an invalid record."""
    likelihood = record.get("likelihood")
    return Prediction(
        id=record["id"],
        text=record["text"],
        value=value_from_json(record["prediction"]),
        finished=record.get("finished", True),
        confidence=record.get("confidence"),
        likelihood=None if likelihood is None else Likelihood(*likelihood),
        missing=record.get("missing", False),
    )
