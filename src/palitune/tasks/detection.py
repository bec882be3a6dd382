"""Object detection: `detect boat ; buoy` -> `<locY0><locX0><locY1><locX1> boat ; ...`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Annotated, ClassVar, cast

from annotated_types import Ge, Le

from palitune.codec import boxes
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Example, Instance, Reference, Row, Size
from palitune.tasks import noise_boxes
from palitune.tasks.base import Task, require


class PromptClasses(Enum):
    """Classes in the prompt."""

    all = "all"
    """Every class, so that the prompt reveals nothing about the image."""
    present = "present"
    """Classes that occur in the image, or all classes if none occurs."""
    one = "one"
    """One random class, seeded by the example id; it occurs in the image with probability .5."""
    some = "some"
    """A random subset of uniformly distributed size, seeded by the example id."""


class ObjectOrder(Enum):
    """Order of the objects in the suffix."""

    reading = "reading"
    """By the top of the box, then by its left side."""
    random = "random"
    """Shuffled, always the same way for one example, as in PaliGemma 2's COCO transfer."""
    given = "given"
    """Order of the annotation file."""


class CrowdPolicy(Enum):
    """Handling of crowd regions, which are in no suffix."""

    keep_as_ignored = "keep_as_ignored"
    """Predictions inside are ignored, as in COCO's evaluation."""
    drop = "drop"
    """Remove the region; predictions inside are false positives."""


@dataclass(kw_only=True)
class Detection(Task):
    """Subclasses may encode more than boxes: see `encode_objects` and `decode_objects`."""

    name: ClassVar[str] = "detection"
    allow_flip: ClassVar[bool] = True
    allow_crop: ClassVar[bool] = True
    verb: ClassVar[str] = "detect"
    suffix_format: ClassVar[str] = "<locY0><locX0><locY1><locX1> label ; ..."
    writes_masks: ClassVar[bool] = False
    validity_metrics: ClassVar[tuple[str, ...]] = (
        "malformed_fragments",
        "duplicates",
        "unknown_label",
    )

    classes: list[str] = field(default_factory=list)
    """Classes in the prompt, in this order; empty: all classes of the data."""
    prompt_classes: PromptClasses = PromptClasses.all
    """Classes named in one prompt: all | present | one | some."""
    prompt: str | None = None
    """Prompt to use instead of the verb and the classes, e.g. `detect all classes`; null: none."""
    order: ObjectOrder = ObjectOrder.reading
    """Order of the objects in the suffix: reading | random | given."""
    negative_ratio: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the images without objects, whose suffix is empty, to keep in the split `train`;
    other splits keep all."""
    crowd: CrowdPolicy = CrowdPolicy.keep_as_ignored
    """Crowd regions: keep_as_ignored | drop."""
    min_box_side: Annotated[float, Ge(0)] = 0.0
    """Objects with a shorter side below this many pixels are left out of the suffix and ignored in
    evaluation."""
    max_objects: Annotated[int | None, Ge(1)] = None
    """Maximum number of objects in a suffix (null: all); evaluation still expects all objects."""
    pad_objects_to: Annotated[int | None, Ge(1)] = None
    """Number of objects to which suffixes are padded with random noise boxes, new in every epoch
    and without loss on their corners. Answers then have this many objects without noise, scored by
    the probability of their label. Requires classes; null: no padding."""
    noise: str = "<noise>"
    """Label of the noise boxes."""
    metrics: list[str] = field(default_factory=lambda: ["detection"])
    max_new_tokens: Annotated[int, Ge(1)] = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pad_objects_to is not None:
            self._check_noise_boxes(self.pad_objects_to)

    def _check_noise_boxes(self, count: int) -> None:
        if self.max_objects is not None and count < self.max_objects:
            raise ValueError(
                f"task.pad_objects_to must be at least task.max_objects={self.max_objects}, "
                f"got {count}."
            )
        if self.writes_masks:
            raise ValueError(
                "task.pad_objects_to must be null for masks, because noise boxes have none. "
                "Set task=detection."
            )
        if not self.classes:
            raise ValueError(
                "task.pad_objects_to requires the classes that answers may contain. "
                "Set task.classes=[...]."
            )
        if self.noise in self.classes or not boxes.is_valid_label(self.noise) or not self.noise:
            raise ValueError(f"task.noise must be a label that is no class, got {self.noise!r}.")

    def prefix(self, row: Row) -> str:
        if self.prompt is not None:
            return self.prompt
        return f"{self.verb} {boxes.OBJECT_SEPARATOR.join(self._classes_in_prompt(row))}"

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        reference = self._reference_objects(row)
        objects = self._suffix_objects(reference)
        if self.pad_objects_to is not None:
            objects = self._pad_with_noise(objects, row.size, Random(f"noise {row.id}"))
        return (self.encode_objects(objects, row.size),), reference

    def example(self, row: Row) -> Example:
        return self._exclude_noise_from_loss(super().example(row))

    def randomize(self, example: Example, rng: Random) -> Example:
        if self.pad_objects_to is None:
            return example
        objects = self._suffix_objects(cast(tuple[Instance, ...], example.reference))
        if self.order is ObjectOrder.random:
            rng.shuffle(objects)
        suffix = self.encode_objects(self._pad_with_noise(objects, example.size, rng), example.size)
        return self._exclude_noise_from_loss(dataclasses.replace(example, suffixes=(suffix,)))

    def _pad_with_noise(self, objects: list[Instance], size: Size, rng: Random) -> list[Instance]:
        return noise_boxes.add_noise_boxes(objects, self.pad_objects_to or 0, self.noise, size, rng)

    def _exclude_noise_from_loss(self, example: Example) -> Example:
        if self.pad_objects_to is None:
            return example
        spans = noise_boxes.noise_token_spans(example.suffixes[0], self.noise)
        return dataclasses.replace(example, no_loss_spans=spans)

    @property
    def requires_grammar(self) -> bool:
        return self.pad_objects_to is not None

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        decoded = self.decode_objects(text, size, confidence)
        return None if decoded.malformed and not decoded.instances else decoded.instances

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        """Allow the classes of the prompt, else those of the task; None without classes.

        A row's own prompt may use other words, e.g. `detect vehicles` for cars and vans.
        """
        verb, _, text = prefix.partition(" ")
        names: list[str] = []
        if verb == self.verb and prefix != self.prompt:
            names = text.split(boxes.OBJECT_SEPARATOR)
        if not names or (self.classes and not set(names) <= set(self.classes)):
            names = self.classes
        labels = tuple(dict.fromkeys(name for name in names if name and boxes.is_valid_label(name)))
        if not labels:
            return None
        if self.pad_objects_to is not None:
            return ObjectGrammar(
                labels,
                max_objects=self.pad_objects_to,
                allow_empty=False,
                min_objects=self.pad_objects_to,
            )
        return ObjectGrammar(labels, self.writes_masks, self.max_objects)

    def count_malformed(self, text: str) -> int:
        return boxes.parse_objects(text, boxes.UNIT_SIZE)[1]

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        decoded = self.decode_objects(suffix, row.size)
        if decoded.malformed:
            raise DataError(f"{row.location}: suffix {suffix!r} is not '{self.suffix_format}'")
        return decoded.instances

    def encode_objects(self, instances: Sequence[Instance], size: Size) -> str:
        """Return the text of the objects of an image. Raises ValueError for an invalid one."""
        return boxes.encode(instances, size)

    def decode_objects(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        """Return the objects of a generated text, without noise boxes."""
        is_padded = self.pad_objects_to is not None
        decoded = boxes.decode(text, size, confidence=confidence, score_of_label=is_padded)
        instances = tuple(i for i in decoded.instances if not (is_padded and i.label == self.noise))
        return dataclasses.replace(decoded, instances=instances)

    def include_in_training(self, row: Row) -> bool:
        if self.negative_ratio == 1 or (row.suffix or "").strip():
            return True
        if row.suffix is None and self._suffix_objects(self._reference_objects(row)):
            return True
        return Random(f"negatives {row.id}").random() < self.negative_ratio

    def count_dropped(self, row: Row) -> dict[str, int]:
        drops = self.min_box_side or self.max_objects or self.crowd is CrowdPolicy.drop
        if row.suffix is not None or not drops:
            return {}
        prompted, reference = self._prompted_objects(row), self._reference_objects(row)
        num_objects = sum(not instance.crowd for instance in prompted)
        num_large = sum(not instance.crowd for instance in reference)
        num_kept = len(self._suffix_objects(reference))
        counts = {
            "crowd regions (task.crowd=drop)": len(prompted) - len(reference),
            f"objects smaller than task.min_box_side={self.min_box_side:g}": num_objects
            - num_large,
            f"objects over task.max_objects={self.max_objects}": num_large - num_kept,
        }
        return {reason: count for reason, count in counts.items() if count}

    def _available_classes(self, row: Row) -> list[str]:
        classes = self.classes or list(row.classes or ())
        if not classes:
            raise DataError(
                f"{row.location}: the data has no list of classes. Set task.classes=[...]"
            )
        return classes

    def _classes_in_prompt(self, row: Row) -> list[str]:
        """Return the classes in the prompt of a row."""
        classes = self._available_classes(row)
        if self.prompt_classes is PromptClasses.all:
            return classes
        if self.prompt_classes is PromptClasses.some:
            rng = Random(f"ask {row.id}")
            sample = set(rng.sample(classes, rng.randint(1, len(classes))))
            return [name for name in classes if name in sample]
        labels = {instance.label for instance in require(row, "instances", row.instances)}
        present = [name for name in classes if name in labels]
        if self.prompt_classes is PromptClasses.present:
            return present or classes
        rng = Random(f"ask {row.id}")
        absent = [name for name in classes if name not in labels]
        first, second = (present, absent) if rng.random() < 0.5 else (absent, present)
        return [rng.choice(first or second)]

    def _prompted_objects(self, row: Row) -> list[Instance]:
        """Return the objects of the classes in the prompt."""
        classes = set(self._classes_in_prompt(row))
        return [i for i in require(row, "instances", row.instances) if i.label in classes]

    def _reference_objects(self, row: Row) -> tuple[Instance, ...]:
        """Return the objects that predictions are scored against; ignored ones are crowds."""
        instances = [
            self._mark_small_as_crowd(instance)
            for instance in self._prompted_objects(row)
            if not (instance.crowd and self.crowd is CrowdPolicy.drop)
        ]
        return tuple(self._sort_objects(row, instances))

    def _suffix_objects(self, reference: tuple[Instance, ...]) -> list[Instance]:
        """Return the objects in the suffix."""
        return [instance for instance in reference if not instance.crowd][: self.max_objects]

    def _mark_small_as_crowd(self, instance: Instance) -> Instance:
        x0, y0, x1, y1 = instance.box
        if not self.min_box_side:
            return instance
        is_small = 0 <= min(x1 - x0, y1 - y0) < self.min_box_side
        return dataclasses.replace(instance, crowd=True) if is_small else instance

    def _sort_objects(self, row: Row, instances: list[Instance]) -> list[Instance]:
        if self.order is ObjectOrder.given:
            return instances
        if self.order is ObjectOrder.reading:
            return sorted(instances, key=lambda i: (i.box[1], i.box[0]))
        return Random(row.id).sample(instances, len(instances))
