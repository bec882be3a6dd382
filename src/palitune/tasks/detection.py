"""`detect boat ; buoy` -> `<locY0><locX0><locY1><locX1> boat ; ...`, one entry per object."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import ClassVar, cast

from palitune.codec import boxes
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Example, Instance, Reference, Row, Size
from palitune.tasks import noise_boxes
from palitune.tasks.base import Task, require


class PromptClasses(Enum):
    """Which classes the prompt names."""

    all = "all"
    """Every class: the honest question, since the prompt tells nothing about the image."""
    present = "present"
    """Those that occur in the image (all of them where none occurs)."""
    one = "one"
    """One, drawn by the example's id: as often one that occurs as one that does not."""
    some = "some"
    """A part of them, drawn by the example's id: any number is as likely as any other."""


class ObjectOrder(Enum):
    """How the suffix lists the objects."""

    reading = "reading"
    """By the top of the box, then by its left side."""
    random = "random"
    """Shuffled, always the same way for the same example; PaliGemma 2's COCO transfer."""
    given = "given"
    """As the annotation file lists them."""


class CrowdPolicy(Enum):
    """What becomes of a region of many objects, which no suffix names."""

    keep_as_ignored = "keep_as_ignored"
    """What a model finds in it is neither right nor wrong, as in COCO's evaluation."""
    drop = "drop"
    """It is not there: what a model finds in it is wrong."""


@dataclass(kw_only=True)
class Detection(Task):
    """A subclass may write more of an object than its box: see `write` and `read`."""

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
    """Classes to ask for, in this order; empty: every class that the data source knows."""
    prompt_classes: PromptClasses = PromptClasses.all
    """Which of them one prompt names: all | present | one | some."""
    prompt: str | None = None
    """Prompt in place of the verb and the classes, e.g. `detect all classes`; null: these."""
    order: ObjectOrder = ObjectOrder.reading
    """Order of the objects in the suffix: reading | random | given."""
    negative_ratio: float = 1.0
    """Share, in [0, 1], of the images with nothing to find that the split `train` keeps; their
    suffix is empty. The other splits keep all."""
    crowd: CrowdPolicy = CrowdPolicy.keep_as_ignored
    """Regions of many objects: keep_as_ignored | drop."""
    min_box_side: float = 0.0
    """Objects whose shorter side has fewer pixels of the image are left out of the suffix; whether
    a model finds them is ignored."""
    max_objects: int | None = None
    """Objects in one suffix, the first ones in its order; evaluation still wants all of them."""
    pad_objects_to: int | None = None
    """Fill the suffix up to so many objects with boxes of noise, drawn anew on every visit, whose
    corners carry no loss. An answer then has as many objects, none of them noise, and the
    probability of its label is an object's score; needs classes; null: none."""
    noise: str = "<noise>"
    """What the boxes of noise are called."""
    metrics: list[str] = field(default_factory=lambda: ["detection"])
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.negative_ratio <= 1:
            raise ValueError(f"task.negative_ratio must be in [0, 1], not {self.negative_ratio}")
        if self.min_box_side < 0:
            raise ValueError(f"task.min_box_side must be at least 0, not {self.min_box_side}")
        if self.max_objects is not None and self.max_objects < 1:
            raise ValueError(f"task.max_objects must be at least 1, not {self.max_objects}")
        if self.pad_objects_to is not None:
            self._check_noise_boxes(self.pad_objects_to)

    def _check_noise_boxes(self, count: int) -> None:
        if count < (self.max_objects or 1):
            raise ValueError(
                f"task.pad_objects_to must be at least {self.max_objects or 1}, the objects that a "
                f"suffix may have, not {count}"
            )
        if self.writes_masks:
            raise ValueError("task.pad_objects_to: noise has no masks; use task=detection, or null")
        if not self.classes:
            raise ValueError(
                "task.pad_objects_to needs task.classes=[...]: an answer may name all but noise"
            )
        if self.noise in self.classes or not boxes.is_valid_label(self.noise) or not self.noise:
            raise ValueError(f"task.noise: {self.noise!r} must be a label that no class has")

    def prefix(self, row: Row) -> str:
        if self.prompt is not None:
            return self.prompt
        return f"{self.verb} {boxes.OBJECT_SEPARATOR.join(self._classes_in_prompt(row))}"

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        reference = self._reference_objects(row)
        objects, chance = self._suffix_objects(reference), Random(f"noise {row.id}")
        try:
            return (
                self.encode_objects(self._pad_with_noise(objects, row.size, chance), row.size),
            ), reference
        except ValueError as mistake:
            raise DataError(f"{row.location}: {mistake}") from mistake

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
        silent = noise_boxes.noise_token_spans(example.suffixes[0], self.noise)
        return dataclasses.replace(example, no_loss_spans=silent)

    @property
    def requires_grammar(self) -> bool:
        return self.pad_objects_to is not None

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        decoded = self.decode_objects(text, size, confidence)
        return None if decoded.malformed and not decoded.instances else decoded.instances

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        """Allow the classes that the prompt names, else all of the task's; None where it has none.

        A prompt of the row's own may ask in other words, `detect vehicles` for cars and vans.
        """
        verb, _, names = prefix.partition(" ")
        asked = (
            names.split(boxes.OBJECT_SEPARATOR)
            if verb == self.verb and prefix != self.prompt
            else []
        )
        if not asked or (self.classes and not set(asked) <= set(self.classes)):
            asked = self.classes
        labels = tuple(dict.fromkeys(name for name in asked if name and boxes.is_valid_label(name)))
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
        """Write the objects of an image. Raises ValueError where one could not be read back."""
        return boxes.encode(instances, size)

    def decode_objects(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        """Invert `write`, as far as the text is well-formed; noise is no object."""
        fills = self.pad_objects_to is not None
        decoded = boxes.decode(text, size, confidence=confidence, score_of_label=fills)
        found = tuple(i for i in decoded.instances if not (fills and i.label == self.noise))
        return dataclasses.replace(decoded, instances=found)

    def include_in_training(self, row: Row) -> bool:
        if self.negative_ratio == 1 or (row.suffix or "").strip():
            return True
        if row.suffix is None and self._suffix_objects(self._reference_objects(row)):
            return True
        return Random(f"negatives {row.id}").random() < self.negative_ratio

    def count_dropped(self, row: Row) -> dict[str, int]:
        if row.suffix is not None:
            return {}
        wanted, reference = self._prompted_objects(row), self._reference_objects(row)
        found = [instance for instance in wanted if not instance.crowd]
        large = [instance for instance in reference if not instance.crowd]
        counts = {
            "crowd regions (task.crowd=drop)": len(wanted) - len(reference),
            f"objects smaller than task.min_box_side={self.min_box_side:g}": len(found)
            - len(large),
            f"objects over task.max_objects={self.max_objects}": len(large)
            - len(self._suffix_objects(reference)),
        }
        return {reason: count for reason, count in counts.items() if count}

    def _available_classes(self, row: Row) -> list[str]:
        classes = self.classes or list(row.classes or ())
        if not classes:
            raise DataError(
                f"{row.location}: the data names no classes; say which with task.classes=[...]"
            )
        return classes

    def _classes_in_prompt(self, row: Row) -> list[str]:
        """Return the classes that the prompt of a row names."""
        classes = self._available_classes(row)
        if self.prompt_classes is PromptClasses.all:
            return classes
        chance = Random(f"ask {row.id}")
        if self.prompt_classes is PromptClasses.some:
            drawn = set(chance.sample(classes, chance.randint(1, len(classes))))
            return [name for name in classes if name in drawn]
        found = {instance.label for instance in require(row, "instances", row.instances)}
        present = [name for name in classes if name in found]
        if self.prompt_classes is PromptClasses.present:
            return present or classes
        absent = [name for name in classes if name not in found]
        first, second = (present, absent) if chance.random() < 0.5 else (absent, present)
        return [chance.choice(first or second)]

    def _prompted_objects(self, row: Row) -> list[Instance]:
        """Return the objects that the prompt asks for."""
        asked = set(self._classes_in_prompt(row))
        return [i for i in require(row, "instances", row.instances) if i.label in asked]

    def _reference_objects(self, row: Row) -> tuple[Instance, ...]:
        """Return what predictions are judged against, in order; what is ignored is a crowd."""
        kept = (
            i
            for i in self._prompted_objects(row)
            if not (i.crowd and self.crowd is CrowdPolicy.drop)
        )
        return tuple(
            self._sort_objects(row, [self._mark_small_as_crowd(instance) for instance in kept])
        )

    def _suffix_objects(self, reference: tuple[Instance, ...]) -> list[Instance]:
        """Return the objects that the suffix names."""
        return [instance for instance in reference if not instance.crowd][: self.max_objects]

    def _mark_small_as_crowd(self, instance: Instance) -> Instance:
        x0, y0, x1, y1 = instance.box
        is_small = 0 <= min(x1 - x0, y1 - y0) < self.min_box_side
        return dataclasses.replace(instance, crowd=True) if is_small else instance

    def _sort_objects(self, row: Row, instances: list[Instance]) -> list[Instance]:
        if self.order is ObjectOrder.given:
            return instances
        if self.order is ObjectOrder.reading:
            return sorted(instances, key=lambda i: (i.box[1], i.box[0]))
        return Random(row.id).sample(instances, len(instances))
