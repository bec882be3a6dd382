"""Write a run folder: configuration, environment, metrics, predictions."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune import processes
from palitune.engines import ALONE, Launch
from palitune.report.machine import environment
from palitune.report.page import write
from palitune.report.run_folder import read_settings
from palitune.report.summary import metrics_table
from palitune.report.trackers import Nowhere, Tracking
from palitune.report.tracking import start

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.evaluation.loop import Results


def open_run(
    output_dir: str, configuration: str, launch: Launch = ALONE, **data: "list[Part]"
) -> Path:
    """Create the run folder with `config.yaml` and `environment.json`; return it.

    `launch`: how the run is shared out, written as accelerate has it. `data`: the parts by what
    they are for (`train`, `test`); `environment.json` holds the fingerprint of each. Of several
    processes the first one writes, here and in the other functions.
    """
    folder = Path(output_dir)
    if not processes.is_first():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(configuration, encoding="utf-8")
    launch.write(folder)
    fingerprints = {
        purpose: {part.name: part.examples.fingerprint() for part in parts}
        for purpose, parts in data.items()
        if parts
    }
    write_json(folder / "environment.json", {**environment(folder), "data": fingerprints})
    return folder


def say(sentences: Sequence[str]) -> None:
    """Print what was checked, a line each."""
    if not processes.is_first():
        return
    from rich import print as show
    from rich.markup import escape

    for sentence in sentences:
        show(f"[green]✓[/green] {escape(sentence)}")


def list_skipped(folder: Path, parts: "Sequence[Part]") -> None:
    """Write `skipped.txt`, if anything is not learned from or judged.

    A sentence per bad row, and one per setting of a task that leaves objects or images out.
    """
    skipped = list(dict.fromkeys(row for part in parts for row in part.examples.skipped))
    left_out = list(
        dict.fromkeys(f"{part.name}: {told}" for part in parts for told in part.examples.left_out)
    )
    file = folder / "skipped.txt"
    if not processes.is_first():
        return
    if skipped or left_out:
        file.write_text("\n".join([*left_out, *skipped]) + "\n", encoding="utf-8")
    if skipped:
        print(f"{len(skipped)} bad rows were skipped; they are listed in {file}")


@contextmanager
def tracked(
    settings: Tracking, folder: Path
) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Open the tracker of a run folder and give its `log`; it is closed whatever happens.

    What the folder holds at the end, if all goes well, is recorded too: see `Tracker.publish`.
    Of several processes the first one is followed.
    """
    if not processes.is_first():
        yield Nowhere().log
        return
    tracker = start(settings, folder, read_settings(folder))
    try:
        yield tracker.log
        tracker.publish(folder)
    finally:
        tracker.finish()


def finish(
    folder: Path,
    split: str,
    after: "Results",
    before: "Results | None" = None,
) -> None:
    """Write predictions and metrics, build the report, show the table.

    Where the data has no references, there are predictions only.
    """
    from rich import print as show

    if not processes.is_first():
        return
    after.write_predictions(folder / "predictions.jsonl")
    if not after.metrics:
        print(
            f"split {split} has no references, so nothing was judged; the predictions are in "
            f"{folder / 'predictions.jsonl'}, and evaluation.submission=... writes a file for a "
            "test server"
        )
        return
    if before is not None:
        before.write_predictions(folder / "predictions_before.jsonl")
    metrics = {
        "split": split,
        "examples": after.examples,
        "judged_by": after.judged_by,
        **({"missing": after.missing} if after.missing else {}),
        "before": before and before.metrics,
        "after": after.metrics,
        "intervals": {
            "before": before and before.intervals,
            "after": after.intervals,
            "difference": before and after.intervals_of_change(before),
        },
        "slices": {"before": before and before.slices, "after": after.slices},
    }
    write_json(folder / "metrics.json", metrics)
    show(metrics_table(metrics))
    show(f"report: {write(folder)}")


def compare(output_dir: str, folders: Sequence[str]) -> None:
    """Set run folders of one command side by side, the first as the baseline.

    Nothing where their data has no references, or where there is one only.
    """
    judged = [folder for folder in folders if (Path(folder) / "metrics.json").is_file()]
    if not processes.is_first() or len(judged) < 2:
        return
    from palitune.report import comparison, comparison_files

    compared = comparison.compare(judged)
    comparison_files.show(compared, comparison_files.write(compared, Path(output_dir)))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON: NaN, which JSON does not have, becomes null."""
    text = json.dumps(_without_nan(content), indent=2, ensure_ascii=False, allow_nan=False)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text + "\n", encoding="utf-8")
    aside.replace(path)  # so that whoever reads it reads all of it


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return value
