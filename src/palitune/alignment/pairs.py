"""Pairs of answers to one prompt, one of them chosen: out of a file, or sampled and ranked.

A file holds JSON Lines with `image` (or `images`), `prefix`, `chosen` and `rejected`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune.alignment.scoring import Scored
from palitune.data.collator import IGNORED, Batch, Collator, with_own_images
from palitune.data.sources.jsonl import Jsonl
from palitune.data.visits import Visit
from palitune.examples import DataError, Example

FILE = "pairs.jsonl"
"""What sampled pairs are written to, in the run folder."""


@dataclass(frozen=True)
class Pair:
    example: Example
    chosen: str
    rejected: str


def read(file: Path) -> list[Pair]:
    """Read all pairs of a file. Raises DataError, naming the line, for one that is none."""
    if not file.is_file():
        raise DataError(f"pairs: there is no file {file}; name one, or sample with pairs=sampled")
    source = Jsonl(path=str(file), columns={"suffix": "chosen", "answers": "rejected"})
    pairs: list[Pair] = []
    for row in source.read(file, "train"):
        if isinstance(row, DataError):
            raise row
        for name in ("prefix", "suffix", "answers"):
            if getattr(row, name) is None:
                raise DataError(
                    f"{row.place}: column '{source.columns.get(name, name)}' is missing"
                )
        prefix, chosen, several = row.prefix or "", row.suffix or "", row.answers or ()
        example = Example(
            id=row.id, images=row.images, size=row.size, prefix=prefix, suffixes=(chosen,),
            reference=(chosen,), place=row.place,
        )  # fmt: skip
        for rejected in several:
            if chosen.strip() == rejected.strip():
                raise DataError(
                    f"{row.place}: chosen and rejected are both {chosen!r}, which tells nothing; "
                    "drop the row"
                )
            pairs.append(Pair(example, chosen, rejected))
    if not pairs:
        raise DataError(f"{file} holds no pairs; write one object per line")
    return pairs


def write(file: Path, ranked: Sequence[tuple[Scored, Scored]]) -> None:
    """Write sampled pairs, (chosen, rejected) each, as `read` reads them."""
    lines = [json.dumps(_line(*pair)) + "\n" for pair in ranked]
    aside = file.with_name(f".{file.name}.new")
    aside.write_text("".join(lines), encoding="utf-8")
    aside.replace(file)


def ranked(groups: Sequence[Sequence[Scored]], margin: float) -> Iterator[tuple[Scored, Scored]]:
    """Yield the best and the worst answer of each group where they are so far apart."""
    for group in groups:
        best, worst = (choose(group, key=lambda one: one.reward) for choose in (max, min))
        if best.reward - worst.reward >= margin:
            yield best, worst


class PairCollator:
    """Makes a batch of pairs: all chosen answers, then all rejected ones, as TRL wants them."""

    def __init__(self, collator: Collator, pairs: Sequence[Pair]) -> None:
        self.collator = collator
        self.pairs = pairs

    def __call__(self, rows: Sequence[dict[str, int]]) -> Batch:
        pairs = [self.pairs[row["image"]] for row in rows]
        chosen = [Visit(pair.example, pair.chosen) for pair in pairs]
        batch = self.collator.train(chosen + [Visit(pair.example, pair.rejected) for pair in pairs])
        batch["completion_mask"] = (batch.pop("labels") != IGNORED).long()
        return with_own_images(batch)


def _line(chosen: Scored, rejected: Scored) -> dict[str, Any]:
    example = chosen.example
    return {
        "images": list(example.images),
        "prefix": example.prefix,
        "chosen": chosen.prediction.text,
        "rejected": rejected.prediction.text,
        "rewards": [chosen.reward, rejected.reward],
    }
