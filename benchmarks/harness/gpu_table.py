"""Tables of `benchmarks/gpu.py`: Markdown for readers, JSON for programs, named after the card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from harness.paired_timing import environment


@dataclass
class GpuRow:
    """A line of a part: values by column, or the reason why some are missing."""

    part: str
    line: str
    values: dict[str, float | str] = field(default_factory=dict)
    error: str | None = None

    def summary(self) -> str:
        """Return the line for the terminal."""
        columns = [f"{name} {_format(value)}" for name, value in self.values.items()]
        columns += [self.error] if self.error else []
        return f"{self.part}: {self.line}: {', '.join(columns)}"


def write_tables(rows: Sequence[GpuRow], folder: Path) -> Path:
    """Write `<card>.md` and `<card>.json`, and return the path of the former."""
    versions = environment()
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", versions["device"].lower()).strip("-")
    table = folder / f"{name}.md"
    table.write_text(markdown(rows, versions), encoding="utf-8")
    report = {"environment": versions, "rows": [_strict_json(row) for row in rows]}
    text = json.dumps(report, indent=1, allow_nan=False)
    table.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return table


def markdown(rows: Sequence[GpuRow], versions: dict[str, str]) -> str:
    """Return one table per part below the card and the versions."""
    lines = [f"# {versions['device']}", ""]
    lines.append(", ".join(f"{name} {version}" for name, version in versions.items()))
    for part, group in groupby(rows, key=lambda row: row.part):
        members = list(group)
        columns = list(dict.fromkeys(name for row in members for name in row.values))
        lines += ["", f"## {part}", ""]
        lines.append(f"| {' | '.join(['line', *columns, 'note'])} |")
        lines.append("|---" * (len(columns) + 2) + "|")
        for row in members:
            cells = [_format(row.values[name]) if name in row.values else "" for name in columns]
            lines.append(f"| {' | '.join([row.line, *cells, row.error or ''])} |")
    return "\n".join(lines) + "\n"


def _format(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.3g}"


def _strict_json(row: GpuRow) -> dict[str, object]:
    """Return the row without NaN, which JSON does not have."""
    values = {k: v for k, v in row.values.items() if not (isinstance(v, float) and math.isnan(v))}
    return asdict(row) | {"values": values}
