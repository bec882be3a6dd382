"""Preference pairs of DPO, read from a file or selected from sampled generations.

A file contains JSON Lines with `image` (or `images`), `prefix`, `chosen` and `rejected`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.alignment.reward_scoring import CompletionGroup, ScoredCompletion
from palitune.codec.parsing import format_json
from palitune.data.collator import Batch, Collator, expand_image_index
from palitune.data.sources.jsonl import Jsonl
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.models.lm_head import IGNORE_INDEX
from palitune.paths import write_atomically
from palitune.records import Example

PAIRS_FILE = "pairs.jsonl"
"""Sampled pairs in the run folder."""


@dataclass(frozen=True)
class PreferencePair:
    example: Example
    chosen: str
    rejected: str


def read_pairs(file: Path) -> list[PreferencePair]:
    """Read all pairs of a file. Raises DataError, with its line, for an invalid one."""
    if not file.is_file():
        raise DataError(f"pairs: file {file} does not exist. Set another one, or pairs=sampled.")
    source = Jsonl(path=str(file), columns={"suffix": "chosen", "answers": "rejected"})
    pairs: list[PreferencePair] = []
    for row in source.read(file, "train"):
        if isinstance(row, DataError):
            raise row
        for name in ("prefix", "suffix", "answers"):
            if getattr(row, name) is None:
                raise DataError(
                    f"{row.location}: column '{source.columns.get(name, name)}' is missing"
                )
        prefix, chosen = row.prefix or "", row.suffix or ""
        example = Example(
            id=row.id, images=row.images, size=row.size, prefix=prefix, suffixes=(chosen,),
            reference=(chosen,), location=row.location,
        )  # fmt: skip
        for rejected in row.answers or ():
            if chosen.strip() == rejected.strip():
                raise DataError(
                    f"{row.location}: chosen and rejected are both {chosen!r}. Remove the row."
                )
            pairs.append(PreferencePair(example, chosen, rejected))
    if not pairs:
        raise DataError(f"{file} contains no pairs. Write one JSON object per line.")
    return pairs


def write_pairs(file: Path, pairs: Sequence[tuple[ScoredCompletion, ScoredCompletion]]) -> None:
    """Write sampled pairs (chosen, rejected) in the form that `read_pairs` reads."""
    lines = [format_json(_to_json(*pair)) + "\n" for pair in pairs]
    with write_atomically(file) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def select_pairs(
    groups: Sequence[CompletionGroup], min_margin: float
) -> Iterator[tuple[ScoredCompletion, ScoredCompletion]]:
    """Yield the generations of highest and lowest reward of each group if they differ enough."""
    for group in groups:
        best, worst = (choose(group, key=lambda item: item.reward) for choose in (max, min))
        if best.reward - worst.reward >= min_margin:
            yield best, worst


class PairCollator:
    """Collates pairs as TRL requires: all chosen texts first, then all rejected ones."""

    def __init__(self, collator: Collator, pairs: Sequence[PreferencePair]) -> None:
        self.collator = collator
        self.pairs = pairs

    def __call__(self, rows: Sequence[dict[str, int]]) -> Batch:
        pairs = [self.pairs[row["image"]] for row in rows]
        chosen = [TrainingSample(pair.example, pair.chosen) for pair in pairs]
        batch = self.collator.collate_train(
            chosen + [TrainingSample(pair.example, pair.rejected) for pair in pairs]
        )
        batch["completion_mask"] = (batch.pop("labels") != IGNORE_INDEX).long()
        return expand_image_index(batch)


def _to_json(chosen: ScoredCompletion, rejected: ScoredCompletion) -> dict[str, Any]:
    example = chosen.example
    return {
        "images": list(example.images),
        "prefix": example.prefix,
        "chosen": chosen.prediction.text,
        "rejected": rejected.prediction.text,
        "rewards": [chosen.reward, rejected.reward],
    }
