"""Score thresholds of an adapter: those of the best F1 on the validation split, by class.

They are stored as `thresholds.json` in the folder of the adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import format_json
from palitune.distributed import collectives
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.object_quality.min_score import THRESHOLDS_FILE
from palitune.evaluation.scoring import Results
from palitune.metrics import METRICS
from palitune.metrics.objects.detection import CocoMetric
from palitune.models.adapters.config import adapter_folder
from palitune.paths import write_atomically

if TYPE_CHECKING:
    from palitune.data.dataset import TaskDataset


def store_validation_thresholds(
    adapter: str | Path,
    network: Any,
    processor: Any,
    validation: "Sequence[TaskDataset]",
    settings: EvaluationConfig,
    *,
    max_samples: int | None,
) -> list[str]:
    """Evaluate the validation data with boxes or masks and store the thresholds with the adapter.

    Args:
        adapter: Folder of the adapter.
        network: The trained network.
        processor: Processor of the model.
        validation: Validation data sets, all of one split.
        settings: Evaluation settings.
        max_samples: Examples to evaluate per data set.

    Returns:
        A sentence for each data set; nothing without boxes or masks.
    """
    from palitune.evaluation.evaluate import evaluate

    datasets = [dataset for dataset in validation if _has_object_metric(dataset)]
    if not datasets:
        return []
    limited = replace(settings, max_samples=max_samples, bootstrap_samples=0, slices=False)
    results = evaluate(network, processor, datasets, limited, title="thresholds")
    return store_thresholds(adapter, results, datasets[0].split)


def store_thresholds(adapter: str | Path, results: Results, split: str) -> list[str]:
    """Write the thresholds to the folder of an adapter, on the main process.

    Args:
        adapter: Folder of the adapter, or of its run.
        results: Results on the split; nothing is written if no object has a score.
        split: Name of the split.

    Returns:
        A sentence for each data set.
    """
    if not results.thresholds:
        return []
    file = Path(adapter_folder(str(adapter))) / THRESHOLDS_FILE
    content = {"split": split, "examples": results.num_examples, "parts": results.thresholds}
    if collectives.is_main_process():
        with write_atomically(file) as temporary:
            temporary.write_text(format_json(content, indent=2) + "\n", encoding="utf-8")
    return [
        f"thresholds of {name} on {split}, stored in {file}: {_describe_best(part)}"
        for name, part in results.thresholds.items()
    ]


def _describe_best(part: Mapping[str, Any]) -> str:
    best = part["overall"]
    if best["threshold"] is None:
        return "none, as no prediction is correct"
    return f"best F1 {best['f1']:.3f} at score {best['threshold']:.3f}"


def _has_object_metric(dataset: "TaskDataset") -> bool:
    return any(isinstance(METRICS[name](), CocoMetric) for name in dataset.task.metrics)
