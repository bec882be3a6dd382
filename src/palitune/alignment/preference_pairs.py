"""Pairs of answers to one prompt, one of them chosen: out of a file, or sampled and ranked.

A file holds JSON Lines with `image` (or `images`), `prefix`, `chosen` and `rejected`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.alignment.reward_scoring import ScoredCompletion
from palitune.data.collator import Batch, Collator, expand_image_index
from palitune.data.sources.jsonl import Jsonl
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.models.lm_head import IGNORE_INDEX
from palitune.records import Example

PAIRS_FILE = "pairs.jsonl"
"""What sampled pairs are written to, in the run folder."""


@dataclass(frozen=True)
class PreferencePair:
    example: Example
    chosen: str
    rejected: str


def read_pairs(file: Path) -> list[PreferencePair]:
    """Read all pairs of a file. Raises DataError, naming the line, for one that is none."""
    if not file.is_file():
        raise DataError(f"pairs: there is no file {file}; name one, or sample with pairs=sampled")
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
        prefix, chosen, several = row.prefix or "", row.suffix or "", row.answers or ()
        example = Example(
            id=row.id, images=row.images, size=row.size, prefix=prefix, suffixes=(chosen,),
            reference=(chosen,), location=row.location,
        )  # fmt: skip
        for rejected in several:
            if chosen.strip() == rejected.strip():
                raise DataError(
                    f"{row.location}: chosen and rejected are both {chosen!r}, which tells nothing; "
                    "drop the row"
                )
            pairs.append(PreferencePair(example, chosen, rejected))
    if not pairs:
        raise DataError(f"{file} holds no pairs; write one object per line")
    return pairs


def write_pairs(file: Path, pairs: Sequence[tuple[ScoredCompletion, ScoredCompletion]]) -> None:
    """Write sampled pairs, (chosen, rejected) each, as `read` reads them."""
    lines = [json.dumps(_to_json(*pair)) + "\n" for pair in pairs]
    aside = file.with_name(f".{file.name}.new")
    aside.write_text("".join(lines), encoding="utf-8")
    aside.replace(file)


def select_pairs(
    groups: Sequence[Sequence[ScoredCompletion]], min_margin: float
) -> Iterator[tuple[ScoredCompletion, ScoredCompletion]]:
    """Yield the best and the worst answer of each group where they are so far apart."""
    for group in groups:
        best, worst = (choose(group, key=lambda one: one.reward) for choose in (max, min))
        if best.reward - worst.reward >= min_margin:
            yield best, worst


class PairCollator:
    """Makes a batch of pairs: all chosen answers, then all rejected ones, as TRL wants them."""

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
