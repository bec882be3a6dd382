"""Event files that TensorBoard reads: curves, final numbers, configuration and table as text."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palitune.report.metrics_table import metric_values, metrics_markdown
from palitune.report.run_reader import RunFolder


def samples_markdown(samples: Sequence[Mapping[str, Any]]) -> str:
    """Write answers that were sampled to some prompts as lists, each with its reward."""
    return "\n\n".join(
        f"{sample['id']} `{sample['prefix']}`\n\n"
        + "\n".join(f"- {a['reward']:.3f} `{a['text']}`" for a in sample["answers"])
        for sample in samples
    )


class TensorBoardTracker:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Prepare a new event file in `folder`; raise RuntimeError where tensorboard is missing.

        It begins with the first number, and from its step on hides what the files of an interrupted
        run in that folder say.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as missing:
            raise RuntimeError(
                "the package tensorboard is missing: pip install tensorboard"
            ) from missing
        self._open = partial(SummaryWriter, str(folder))
        self._config = dict(config)
        self._writer: Any = None
        self._step = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._open_writer(step)
        self._step = step
        for name, value in metrics.items():
            self._add_scalar(name, value, step)

    def publish(self, run: RunFolder) -> None:
        """Write each final number as `after/<part>/<name>` at the last step, `before/…` at 0."""
        if self._writer is None:  # nothing was left to train: only the last step is said again
            last = [entry for entry in run.history if entry["step"] == run.history[-1]["step"]]
            for entry in last:
                self.log({k: v for k, v in entry.items() if k != "step"}, int(entry["step"]))
        self._open_writer(self._step)
        for number in metric_values(run.metrics):
            name = f"{number.part}/{number.name}" if number.part else number.name
            self._add_scalar(f"after/{name}", number.after, self._step)
            if number.before is not None:
                self._add_scalar(f"before/{name}", number.before, 0)
        self._add_text("metrics", metrics_markdown(run.metrics), self._step)
        for step in sorted({sample["step"] for sample in run.samples}):
            at_step = [sample for sample in run.samples if sample["step"] == step]
            self._add_text("samples", samples_markdown(at_step), step)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open_writer(self, step: int) -> None:
        if self._writer is not None:
            return
        import yaml  # type: ignore[import-untyped]

        self._writer = self._open(purge_step=step)
        written = yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True)
        self._add_text("config", f"```yaml\n{written}```", step)

    def _add_scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def _add_text(self, name: str, text: str, step: int) -> None:
        self._writer.add_text(name, text, step)
