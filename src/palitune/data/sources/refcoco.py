"""RefCOCO, RefCOCO+ and RefCOCOg: `refs.json` with expressions, `instances.json` with objects.

`instances.json` is a COCO file. `refs.json`, which `scripts/convert/refcoco.py` creates from the
official pickle, is a list of `{"ref_id", "ann_id", "image_id", "split", "sentences": [{"sent_id",
"sent"}]}`. A row is one expression for one object. Splits have the names in `refs.json` (train,
val, testA, testB, test).

The transfers of PaliGemma train on the three data sets together, without the images that any of
them uses for evaluation: with the folders `data.sets=[refcoco,refcocoplus,refcocog]`, `train` is
the union of their training sets without these images, and `refcocog/test` is a split of one of
them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.coco import find_image_folder
from palitune.data.sources.coco_file import CocoFile
from palitune.data.sources.split_files import canonical_split
from palitune.data.sources.validation import read_json, short_repr
from palitune.errors import DataError
from palitune.records import Row


class ExpressionSelection(Enum):
    """Expressions of an object that become rows."""

    all = "all"
    """All of them, as in evaluation."""
    one = "one"
    """One, drawn with the ref_id of the object as seed."""


@dataclass(kw_only=True)
class RefCoco(Source):
    """Rows from a RefCOCO data set: one per object and expression."""

    name: ClassVar[str] = "refcoco"
    patterns: ClassVar[tuple[str, ...]] = ("refs.json",)

    instances: str = "instances.json"
    """COCO file of the objects, relative to `path` (with `sets`: to each of them) or absolute."""
    sets: list[str] = field(default_factory=list)
    """Folders of several data sets under `path` (empty: `path` is one data set)."""
    images: str | None = None
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    sentences: ExpressionSelection = ExpressionSelection.all
    """Expressions of an object that become rows: all | one."""
    masks: bool = False
    """Read the masks of the objects."""

    def files(self, split: str) -> Iterable[Path]:
        refs = self._refs_files(split) or [self.annotation_file(split)]
        return [file for ref in refs for file in (ref, self._instances_file(ref))]

    def search_patterns(self) -> list[str]:
        return [f"{name}/refs.json" for name in self.sets] or super().search_patterns()

    def candidates(self, split: str) -> list[Path]:
        """Return the file of a split; with several data sets, the first file."""
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
        files = self._refs_files(split) or [file]
        name = canonical_split(split.rpartition("/")[2])
        held_out = _held_out_image_ids(files) if len(files) > 1 and name == "train" else set()
        refs_by_file = {
            path: [ref for ref in _load_refs(path) if _split_name(ref) == name] for path in files
        }
        if not any(refs_by_file.values()):
            raise DataError(
                f"{file}: split must be one of {', '.join(self.available_splits())}, got {split!r}."
            )
        for path, refs in refs_by_file.items():
            reader = self._make_reader(path, name)
            for ref in refs:
                if _valid_id(ref.get("image_id")) not in held_out:
                    try:
                        yield from reader.rows(ref)
                    except DataError as error:
                        yield error

    def _make_reader(self, file: Path, split: str) -> "_RefReader":
        content = CocoFile.load(
            self._instances_file(file), load_masks=self.masks, clip_boxes=self.clip_boxes
        )
        folder = str(find_image_folder(content, self.images, self.folder(), split).absolute())
        prefix = f"{file.parent.name}/" if self.sets else ""
        return _RefReader(file, content, folder, self.sentences, prefix)

    def _refs_files(self, split: str) -> list[Path]:
        """Return the refs.json of each data set of a split; none without `sets`."""
        data_set, _, _ = split.rpartition("/")
        names = [name for name in self.sets if data_set in ("", name)]
        return [self.folder() / name / self.patterns[0] for name in names]

    def _instances_file(self, refs: Path) -> Path:
        folder = refs.parent if self.sets else self.folder()
        file = folder / Path(self.instances).expanduser()
        if not file.is_file():
            raise DataError(
                f"{file} does not exist. Set data.instances=FILE to the COCO file of the objects."
            )
        return file


def _split_name(ref: dict[str, Any]) -> str:
    return canonical_split(str(ref.get("split")))


def _held_out_image_ids(files: list[Path]) -> set[Any]:
    """Return the ids of the images that any data set uses for evaluation."""
    refs = (ref for file in files for ref in _load_refs(file))
    return {_valid_id(ref.get("image_id")) for ref in refs if _split_name(ref) != "train"}


class _RefReader:
    """Builds the rows of one refs.json."""

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
        location = f"{self.file}, ref_id {short_repr(ref.get('ref_id'))}"
        annotation = self._entry(self.annotations, "annotation", ref.get("ann_id"), location)
        image = self._entry(self.images, "image", ref.get("image_id"), location)
        path, size, _ = self.coco.image(image, self.folder)
        instance = self.coco.instance(annotation, size)
        sentences = _parse_sentences(ref, location)
        if self.sentences is ExpressionSelection.one:
            sentences = [Random(str(ref.get("ref_id"))).choice(sentences)]
        for number, (key, sentence) in enumerate(sentences):
            yield Row(
                id=f"{self.prefix}{ref.get('ref_id')}-{number if key is None else key}",
                images=(path,),
                size=size,
                location=location,
                expression=sentence,
                instances=(instance,),
                classes=tuple(dict.fromkeys(self.coco.categories.values())),
            )

    def _entry(self, entries: dict[Any, Any], kind: str, key: Any, location: str) -> dict[str, Any]:
        entry: dict[str, Any] | None = entries.get(_valid_id(key))
        if entry is None:
            raise DataError(
                f"{location}: {kind} must be in {self.coco.file}, got {short_repr(key)}. Use the "
                "instances.json of the same download."
            )
        return entry


def _valid_id(value: Any) -> Any:
    return value if isinstance(value, int | str) else None


def _parse_sentences(ref: dict[str, Any], location: str) -> list[tuple[Any, str]]:
    """Return the expressions with their sent_id."""
    value = ref.get("sentences")
    entries = value if isinstance(value, list) else []
    sentences = [
        (_valid_id(entry.get("sent_id")), entry["sent"].strip())
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("sent"), str) and entry["sent"].strip()
    ]
    if len(sentences) != len(entries) or not sentences:
        raise DataError(
            f"{location}: sentences must be a list of "
            f'{{"sent_id": 3, "sent": "the boat on the left"}}, '
            f"got {short_repr(value)}."
        )
    return sentences


def _load_refs(file: Path) -> list[dict[str, Any]]:
    way_out = "Create it with scripts/convert/refcoco.py."
    refs = read_json(file, way_out)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) for ref in refs):
        raise DataError(
            f"{file}: file must be a list of objects, got {short_repr(refs)}. {way_out}"
        )
    return refs
