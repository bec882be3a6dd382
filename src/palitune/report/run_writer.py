"""Write a run folder: configuration, environment, metrics, predictions and report."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import format_json
from palitune.distributed import collectives
from palitune.distributed.strategies import SINGLE_PROCESS, Strategy
from palitune.distributed.terminal import print_line
from palitune.paths import write_atomically
from palitune.report.environment import environment
from palitune.report.metrics_table import metric_values, metrics_table
from palitune.report.pages.run_report import write_run_report
from palitune.report.predictions_csv import FieldTable
from palitune.report.run_reader import read_config
from palitune.report.trackers.config import NullTracker, TrackerConfig
from palitune.report.trackers.fail_safe import FailSafeTracker

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset
    from palitune.evaluation.scoring import Results


def create_run_folder(
    output_dir: str,
    config_yaml: str,
    launch: Strategy = SINGLE_PROCESS,
    *,
    network: Mapping[str, str] | None = None,
    **data: "list[TaskDataset]",
) -> Path:
    """Create the run folder with `config.yaml`, `environment.json` and `skipped.txt`; return it.

    Only the main process writes, here and in the other functions of this module.

    Args:
        output_dir: The folder.
        config_yaml: Content of `config.yaml`.
        launch: Distributed strategy, whose configuration for accelerate is written if it has one.
        network: Device, dtype and attention of the network, which are also printed.
        data: Components by purpose (`train`, `test`), whose fingerprints are recorded.
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
    recorded = {**environment(folder), "data": fingerprints}
    if network is not None:
        recorded["network"] = dict(network)
        print_checks(["network: " + ", ".join(f"{key} {network[key]}" for key in network)])
    write_json(folder / "environment.json", recorded)
    write_skipped(folder, [part for parts in data.values() for part in parts])
    return folder


def print_checks(messages: Sequence[str]) -> None:
    """Print the results of checks, a line each."""
    if not collectives.is_main_process():
        return
    for message in messages:
        print_line(message, "✓", "green")


def write_skipped(folder: Path, parts: "Sequence[TaskDataset]") -> None:
    """Write `skipped.txt`: bad rows, and what the settings of the tasks leave out.

    Nothing is written if everything is used.
    """
    skipped = list(dict.fromkeys(row for part in parts for row in part.examples.skipped))
    left_out = list(
        dict.fromkeys(
            f"{part.name}: {reason}" for part in parts for reason in part.examples.dropped
        )
    )
    file = folder / "skipped.txt"
    if skipped or left_out:
        file.write_text("\n".join([*left_out, *skipped]) + "\n", encoding="utf-8")
    if skipped:
        print(f"Skipped {len(skipped)} bad rows; see {file}")


@contextmanager
def open_tracker(
    tracker_config: TrackerConfig, folder: Path
) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """Open the tracker of a run on the main process, yield its `log` and close it at the end.

    The results in the run folder are published unless an exception ends the run.
    """
    if not collectives.is_main_process():
        yield NullTracker().log
        return
    tracker = FailSafeTracker(tracker_config, folder, read_config(folder))
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
    """Write predictions, metrics and report, and print the table of metrics.

    Without references in the data, only predictions are written.

    Args:
        folder: Run folder.
        split: Name of the evaluated split.
        after: Results of the trained model.
        before: Results of the same model before training; None: not evaluated.
    """
    from rich import print as print_rich

    if not collectives.is_main_process():
        return
    after.write_predictions(folder / "predictions.jsonl")
    _write_field_table(folder, after)
    if not after.metrics:
        print(
            f"split {split} has no references, so no metrics were computed. The predictions are "
            f"in {folder / 'predictions.jsonl'}; evaluation.submission=... writes a file for a "
            "test server."
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
        **_object_quality(after, before),
    }
    write_json(folder / "metrics.json", metrics)
    write_metrics_csv(folder / "metrics.csv", metrics)
    print_rich(metrics_table(metrics).to_rich())
    print_line(f"report: {write_run_report(folder)}")


def _object_quality(after: "Results", before: "Results | None") -> dict[str, Any]:
    """Return error types and thresholds of boxes or masks, if there are any."""
    content: dict[str, Any] = {}
    if after.error_types:
        content["error_types"] = {
            "before": before and before.error_types,
            "after": after.error_types,
        }
    if after.thresholds:
        content["thresholds"] = after.thresholds
    return content


def _write_field_table(folder: Path, results: "Results") -> None:
    """Write the predicted fields of documents as `predictions.csv`, if there are any."""
    table = FieldTable()
    for record in results.predictions:
        table.add(
            record["id"],
            record["images"],
            record["prediction"],
            record.get("field_confidences", {}),
            record.get("repairs", ()),
        )
    table.write(folder)


def write_comparison(output_dir: str, folders: Sequence[str]) -> None:
    """Compare the run folders of one command, with the first as the baseline.

    Nothing is written for fewer than two folders with metrics.
    """
    scored = [folder for folder in folders if (Path(folder) / "metrics.json").is_file()]
    if not collectives.is_main_process() or len(scored) < 2:
        return
    from palitune.report.comparison.compare import compare_runs
    from palitune.report.comparison.files import print_comparison, write_comparison_files

    comparison = compare_runs(scored)
    print_comparison(comparison, write_comparison_files(comparison, Path(output_dir)))


def write_metrics_csv(file: Path, metrics: Mapping[str, Any]) -> None:
    """Write every metric in a line, for spreadsheets; undefined values are empty."""
    rows = [
        [value.part, value.name, value.before, value.after, value.change]
        for value in metric_values(metrics)
    ]
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["part", "metric", "before", "after", "change"])
        for row in rows:
            writer.writerow("" if v is None or v != v else v for v in row)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON atomically; NaN, which JSON does not have, becomes null."""
    with write_atomically(path) as temporary:
        temporary.write_text(format_json(content, indent=2) + "\n", encoding="utf-8")
