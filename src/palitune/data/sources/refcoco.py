"""RefCOCO, RefCOCO+ and RefCOCOg: `refs.json` with expressions, `instances.json` with objects.

`instances.json` is COCO's. `refs.json` is a list of `{"ref_id", "ann_id", "image_id", "split",
"sentences": [{"sent_id", "sent"}]}`: `scripts/convert_refcoco.py` makes it of the official pickle.
A row is one expression for one object. Splits have the names that `refs.json` gives them (train,
val, testA, testB, test).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from palitune.data.sources import lookup
from palitune.data.sources.base import Source
from palitune.data.sources.checks import shown
from palitune.data.sources.coco import image_folder
from palitune.data.sources.coco_file import CocoFile
from palitune.examples import DataError, Row


class Sentences(Enum):
    """Which expressions of an object become rows."""

    all = "all"
    """Each of them, as evaluation has it."""
    one = "one"
    """One, drawn by the object's ref_id."""


@dataclass(kw_only=True)
class RefCoco(Source):
    """Rows out of a RefCOCO data set: one per object and expression."""

    name: ClassVar[str] = "refcoco"
    patterns: ClassVar[tuple[str, ...]] = ("refs.json",)

    instances: str = "instances.json"
    """COCO file of the objects, relative to `path` or absolute."""
    images: str | None = None
    """Folder of the images, relative to `path` or absolute; null: found in the usual places."""
    sentences: Sentences = Sentences.all
    """Expressions of an object that become rows: all | one."""
    masks: bool = False
    """Read the masks of the objects, too."""

    def files(self, split: str) -> Iterable[Path]:
        return [self.annotation_file(split), self._instances_file()]

    def available_splits(self) -> list[str]:
        file = self.folder() / self.patterns[0]
        named = (ref.get("split") for ref in _refs(file)) if file.is_file() else ()
        return list(dict.fromkeys(lookup.canonical(s) for s in named if isinstance(s, str)))

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        refs = [ref for ref in _refs(file) if lookup.canonical(str(ref.get("split"))) == split]
        if not refs:
            raise DataError(
                f"{file}: no split {split!r}; it has {', '.join(self.available_splits())}"
            )
        content = CocoFile.load(self._instances_file(), masks=self.masks)
        folder = str(image_folder(content, self.images, self.folder(), split).absolute())
        reader = _Reader(file, content, folder, self.sentences)
        for ref in refs:
            try:
                yield from reader.rows(ref)
            except DataError as mistake:
                yield mistake

    def _instances_file(self) -> Path:
        file = self.folder() / Path(self.instances).expanduser()
        if not file.is_file():
            raise DataError(
                f"{file} does not exist; name the COCO file of the objects with data.instances=FILE"
            )
        return file


class _Reader:
    def __init__(self, file: Path, content: CocoFile, folder: str, sentences: Sentences) -> None:
        self.file = file
        self.content = content
        self.folder = folder
        self.sentences = sentences
        self.images = {_key(entry.get("id")): entry for entry in content.images}
        self.annotations = {_key(entry.get("id")): entry for entry in content.annotations}

    def rows(self, ref: dict[str, Any]) -> Iterator[Row]:
        place = f"{self.file}, ref_id {shown(ref.get('ref_id'))}"
        annotation = self._found(self.annotations, "annotation", ref.get("ann_id"), place)
        image = self._found(self.images, "image", ref.get("image_id"), place)
        path, size, _ = self.content.image(image, self.folder)
        instance = self.content.instance(annotation, size)
        sentences = _sentences(ref, place)
        if self.sentences is Sentences.one:
            sentences = [Random(str(ref.get("ref_id"))).choice(sentences)]
        for number, (key, sentence) in enumerate(sentences):
            yield Row(
                id=f"{ref.get('ref_id')}-{number if key is None else key}",
                images=(path,),
                size=size,
                place=place,
                expression=sentence,
                instances=(instance,),
                classes=tuple(dict.fromkeys(self.content.categories.values())),
            )

    def _found(self, entries: dict[Any, Any], what: str, key: Any, place: str) -> dict[str, Any]:
        entry: dict[str, Any] | None = entries.get(_key(key))
        if entry is None:
            raise DataError(
                f"{place}: {what} {shown(key)} is not in {self.content.file}; take the "
                "instances.json that came with the refs"
            )
        return entry


def _key(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _sentences(ref: dict[str, Any], place: str) -> list[tuple[Any, str]]:
    """Return the expressions with their numbers."""
    written = ref.get("sentences")
    entries = written if isinstance(written, list) else []
    found = [
        (_key(entry.get("sent_id")), entry["sent"].strip())
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("sent"), str) and entry["sent"].strip()
    ]
    if len(found) != len(entries) or not found:
        raise DataError(
            f"{place}: sentences {shown(written)} must be a list of "
            '{"sent_id": 3, "sent": "the boat on the left"}'
        )
    return found


def _refs(file: Path) -> list[dict[str, Any]]:
    try:
        refs = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as mistake:
        raise DataError(
            f"{file}: not JSON ({mistake}); make it with scripts/convert_refcoco.py"
        ) from mistake
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise DataError(f"{file}: not a list of objects; make it with scripts/convert_refcoco.py")
    return refs
