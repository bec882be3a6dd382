"""TensorBoard event files: training curves, final metrics, configuration and table as text."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palitune.report.metrics_table import metric_values, metrics_table
from palitune.report.run_reader import RunFolder


def samples_markdown(samples: Sequence[Mapping[str, Any]]) -> str:
    """Format completions sampled during alignment as lists, each with its reward."""
    return "\n\n".join(
        f"{sample['id']} `{sample['prefix']}`\n\n"
        + "\n".join(f"- {a['reward']:.3f} `{a['text']}`" for a in sample["answers"])
        for sample in samples
    )


class TensorBoardTracker:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Prepare a new event file in `folder`, which is created with the first metric.

        From that step on, TensorBoard hides the events of an interrupted run in the same folder.

        Raises:
            RuntimeError: The package tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RuntimeError(
                "the package tensorboard is missing: pip install tensorboard"
            ) from error
        self._open = partial(SummaryWriter, str(folder))
        self._config = dict(config)
        self._writer: Any = None
        self._step = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._open_writer(step)
        self._step = step
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def publish(self, run: RunFolder) -> None:
        """Log each final metric as `after/<part>/<name>` at the last step, `before/…` at 0."""
        if self._writer is None:  # the resumed run had no step left: repeat the last one
            last = [entry for entry in run.history if entry["step"] == run.history[-1]["step"]]
            for entry in last:
                self.log({k: v for k, v in entry.items() if k != "step"}, int(entry["step"]))
        self._open_writer(self._step)
        for metric in metric_values(run.metrics):
            name = f"{metric.part}/{metric.name}" if metric.part else metric.name
            self._writer.add_scalar(f"after/{name}", metric.after, self._step)
            if metric.before is not None:
                self._writer.add_scalar(f"before/{name}", metric.before, 0)
        self._writer.add_text("metrics", metrics_table(run.metrics).to_markdown(), self._step)
        for step in sorted({sample["step"] for sample in run.samples}):
            at_step = [sample for sample in run.samples if sample["step"] == step]
            self._writer.add_text("samples", samples_markdown(at_step), step)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open_writer(self, step: int) -> None:
        if self._writer is not None:
            return
        import yaml  # type: ignore[import-untyped]

        self._writer = self._open(purge_step=step)
        text = yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True)
        self._writer.add_text("config", f"```yaml\n{text}```", step)
