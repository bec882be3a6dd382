"""Write a run folder: configuration, environment, metrics, predictions."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.distributed import collectives
from palitune.distributed.strategies import SINGLE_PROCESS, Strategy
from palitune.paths import write_atomically
from palitune.report.environment import environment
from palitune.report.metrics_table import metrics_table
from palitune.report.pages.run_report import write_run_report
from palitune.report.run_reader import read_config
from palitune.report.trackers.config import NullTracker, TrackerConfig
from palitune.report.trackers.fail_safe import start_tracker

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset
    from palitune.evaluation.scoring import Results


def create_run_folder(
    output_dir: str,
    config_yaml: str,
    launch: Strategy = SINGLE_PROCESS,
    **data: "list[TaskDataset]",
) -> Path:
    """Create the run folder with `config.yaml` and `environment.json`; return it.

    `launch`: how the run is shared out, written as accelerate has it. `data`: the parts by what
    they are for (`train`, `test`); `environment.json` holds the fingerprint of each. Of several
    processes the first one writes, here and in the other functions.
    """
    folder = Path(output_dir)
    if not collectives.is_main_process():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config_yaml, encoding="utf-8")
    launch.write_accelerate_config(folder)
    fingerprints = {
        purpose: {part.name: part.examples.fingerprint() for part in parts}
        for purpose, parts in data.items()
        if parts
    }
    write_json(folder / "environment.json", {**environment(folder), "data": fingerprints})
    return folder


def print_checks(messages: Sequence[str]) -> None:
    """Print what was checked, a line each."""
    if not collectives.is_main_process():
        return
    from rich import print as show
    from rich.markup import escape

    for sentence in messages:
        show(f"[green]✓[/green] {escape(sentence)}")


def write_skipped(folder: Path, parts: "Sequence[TaskDataset]") -> None:
    """Write `skipped.txt`, if anything is not learned from or judged.

    A sentence per bad row, and one per setting of a task that leaves objects or images out.
    """
    skipped = list(dict.fromkeys(row for part in parts for row in part.examples.skipped))
    left_out = list(
        dict.fromkeys(f"{part.name}: {told}" for part in parts for told in part.examples.dropped)
    )
    file = folder / "skipped.txt"
    if not collectives.is_main_process():
        return
    if skipped or left_out:
        file.write_text("\n".join([*left_out, *skipped]) + "\n", encoding="utf-8")
    if skipped:
        print(f"{len(skipped)} bad rows were skipped; they are listed in {file}")


@contextmanager
def open_tracker(
    tracker_config: TrackerConfig, folder: Path
) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Open the tracker of a run folder and give its `log`; it is closed whatever happens.

    What the folder holds at the end, if all goes well, is recorded too: see `Tracker.publish`.
    Of several processes the first one is followed.
    """
    if not collectives.is_main_process():
        yield NullTracker().log
        return
    tracker = start_tracker(tracker_config, folder, read_config(folder))
    try:
        yield tracker.log
        tracker.publish(folder)
    finally:
        tracker.finish()


def write_results(
    folder: Path,
    split: str,
    after: "Results",
    before: "Results | None" = None,
) -> None:
    """Write predictions and metrics, build the report, show the table.

    Where the data has no references, there are predictions only.
    """
    from rich import print as show

    if not collectives.is_main_process():
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
        "examples": after.num_examples,
        "metrics": after.metric_names_by_dataset,
        **({"missing": after.num_missing} if after.num_missing else {}),
        "before": before and before.metrics,
        "after": after.metrics,
        "intervals": {
            "before": before and before.confidence_intervals,
            "after": after.confidence_intervals,
            "difference": before and after.difference_intervals(before),
        },
        "slices": {"before": before and before.slices, "after": after.slices},
    }
    write_json(folder / "metrics.json", metrics)
    show(metrics_table(metrics))
    show(f"report: {write_run_report(folder)}")


def write_comparison(output_dir: str, folders: Sequence[str]) -> None:
    """Set run folders of one command side by side, the first as the baseline.

    Nothing where their data has no references, or where there is one only.
    """
    judged = [folder for folder in folders if (Path(folder) / "metrics.json").is_file()]
    if not collectives.is_main_process() or len(judged) < 2:
        return
    from palitune.report.comparison import compare as compare_module
    from palitune.report.comparison import files

    compared = compare_module.compare_runs(judged)
    files.print_comparison(compared, files.write_comparison_files(compared, Path(output_dir)))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON: NaN, which JSON does not have, becomes null."""
    text = json.dumps(_replace_nan(content), indent=2, ensure_ascii=False, allow_nan=False)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _replace_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _replace_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nan(inner) for inner in value]
    return value
