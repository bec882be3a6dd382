"""RefCOCO, RefCOCO+ and RefCOCOg: `refs.json` with expressions, `instances.json` with objects.

`instances.json` is COCO's. `refs.json` is a list of `{"ref_id", "ann_id", "image_id", "split",
"sentences": [{"sent_id", "sent"}]}`: `scripts/convert/refcoco.py` makes it of the official pickle.
A row is one expression for one object. Splits have the names that `refs.json` gives them (train,
val, testA, testB, test).

The transfers of PaliGemma train on the three data sets together, without any image that one of them
evaluates on: `data.sets=[refcoco,refcocoplus,refcocog]` are folders that lie together, `train` is
the union of theirs without these images, and `refcocog/test` is a split of one of them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from palitune.data.sources import split_files
from palitune.data.sources.base import Source
from palitune.data.sources.coco import find_image_folder
from palitune.data.sources.coco_file import CocoFile
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.records import Row


class ExpressionSelection(Enum):
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
    """COCO file of the objects, relative to `path`, of several data sets to each; or absolute."""
    sets: list[str] = field(default_factory=list)
    """Folders of several data sets under `path`; empty: `path` is one data set."""
    images: str | None = None
    """Folder of the images, relative to `path` or absolute; null: found in the usual places."""
    sentences: ExpressionSelection = ExpressionSelection.all
    """Expressions of an object that become rows: all | one."""
    masks: bool = False
    """Read the masks of the objects, too."""

    def files(self, split: str) -> Iterable[Path]:
        refs = self._refs_files(split) or [self.annotation_file(split)]
        return [file for each in refs for file in (each, self._instances_file(each))]

    def search_patterns(self) -> list[str]:
        return [f"{name}/refs.json" for name in self.sets] or super().search_patterns()

    def candidates(self, split: str) -> list[Path]:
        """Return the file of a split, of several data sets the first."""
        if not self.sets:
            return super().candidates(split)
        files = self._refs_files(split)
        return files[:1] if all(file.is_file() for file in files) else []

    def available_splits(self) -> list[str]:
        if not self.sets:
            file = self.folder() / self.patterns[0]
            return list(dict.fromkeys(map(_split_name, _load_refs(file)))) if file.is_file() else []
        files = [file for file in self._refs_files("") if file.is_file()]
        names = dict.fromkeys(
            f"{f.parent.name}/{_split_name(ref)}" for f in files for ref in _load_refs(f)
        )
        return ["train", *names] if names else []

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        files, name = (
            self._refs_files(split) or [file],
            split_files.canonical_split(split.rpartition("/")[2]),
        )
        held_out = _held_out_image_ids(files) if len(files) > 1 and name == "train" else set()
        wanted = {
            each: [ref for ref in _load_refs(each) if _split_name(ref) == name] for each in files
        }
        if not any(wanted.values()):
            raise DataError(
                f"{file}: no split {split!r}; it has {', '.join(self.available_splits())}"
            )
        for each, refs in wanted.items():
            reader = self._make_reader(each, name)
            for ref in refs:
                if _valid_id(ref.get("image_id")) not in held_out:
                    try:
                        yield from reader.rows(ref)
                    except DataError as mistake:
                        yield mistake

    def _make_reader(self, file: Path, split: str) -> "_RefReader":
        content = CocoFile.load(self._instances_file(file), load_masks=self.masks)
        folder = str(find_image_folder(content, self.images, self.folder(), split).absolute())
        prefix = f"{file.parent.name}/" if self.sets else ""
        return _RefReader(file, content, folder, self.sentences, prefix)

    def _refs_files(self, split: str) -> list[Path]:
        """Return the refs.json of the data sets that a split is made of; none without `sets`."""
        chosen, _, _ = split.rpartition("/")
        names = [name for name in self.sets if name == chosen or not chosen]
        return [self.folder() / name / self.patterns[0] for name in names]

    def _instances_file(self, refs: Path) -> Path:
        folder = refs.parent if self.sets else self.folder()
        file = folder / Path(self.instances).expanduser()
        if not file.is_file():
            raise DataError(
                f"{file} does not exist; name the COCO file of the objects with data.instances=FILE"
            )
        return file


def _split_name(ref: dict[str, Any]) -> str:
    return split_files.canonical_split(str(ref.get("split")))


def _held_out_image_ids(files: list[Path]) -> set[Any]:
    """Return the images that any data set evaluates on."""
    refs = (ref for file in files for ref in _load_refs(file))
    return {_valid_id(ref.get("image_id")) for ref in refs if _split_name(ref) != "train"}


class _RefReader:
    def __init__(
        self, file: Path, coco: CocoFile, folder: str, sentences: ExpressionSelection, prefix: str
    ) -> None:
        self.file = file
        self.prefix = prefix
        self.coco = coco
        self.folder = folder
        self.sentences = sentences
        self.images = {_valid_id(entry.get("id")): entry for entry in coco.images}
        self.annotations = {_valid_id(entry.get("id")): entry for entry in coco.annotations}

    def rows(self, ref: dict[str, Any]) -> Iterator[Row]:
        place = f"{self.file}, ref_id {short_repr(ref.get('ref_id'))}"
        annotation = self._require_entry(self.annotations, "annotation", ref.get("ann_id"), place)
        image = self._require_entry(self.images, "image", ref.get("image_id"), place)
        path, size, _ = self.coco.image(image, self.folder)
        instance = self.coco.instance(annotation, size)
        sentences = _parse_sentences(ref, place)
        if self.sentences is ExpressionSelection.one:
            sentences = [Random(str(ref.get("ref_id"))).choice(sentences)]
        for number, (key, sentence) in enumerate(sentences):
            yield Row(
                id=f"{self.prefix}{ref.get('ref_id')}-{number if key is None else key}",
                images=(path,),
                size=size,
                location=place,
                expression=sentence,
                instances=(instance,),
                classes=tuple(dict.fromkeys(self.coco.categories.values())),
            )

    def _require_entry(
        self, entries: dict[Any, Any], kind: str, key: Any, location: str
    ) -> dict[str, Any]:
        entry: dict[str, Any] | None = entries.get(_valid_id(key))
        if entry is None:
            raise DataError(
                f"{location}: {kind} {short_repr(key)} is not in {self.coco.file}; take the "
                "instances.json that came with the refs"
            )
        return entry


def _valid_id(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _parse_sentences(ref: dict[str, Any], location: str) -> list[tuple[Any, str]]:
    """Return the expressions with their numbers."""
    written = ref.get("sentences")
    entries = written if isinstance(written, list) else []
    found = [
        (_valid_id(entry.get("sent_id")), entry["sent"].strip())
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("sent"), str) and entry["sent"].strip()
    ]
    if len(found) != len(entries) or not found:
        raise DataError(
            f"{location}: sentences {short_repr(written)} must be a list of "
            '{"sent_id": 3, "sent": "the boat on the left"}'
        )
    return found


def _load_refs(file: Path) -> list[dict[str, Any]]:
    try:
        refs = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as mistake:
        raise DataError(
            f"{file}: not JSON ({mistake}); make it with scripts/convert/refcoco.py"
        ) from mistake
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise DataError(f"{file}: not a list of objects; make it with scripts/convert/refcoco.py")
    return refs
