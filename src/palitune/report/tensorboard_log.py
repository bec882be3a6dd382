"""Event files that TensorBoard reads: curves, final numbers, configuration and table as text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palitune.report.run_folder import RunFolder
from palitune.report.summary import metrics_markdown, numbers


def samples_markdown(samples: Sequence[Mapping[str, Any]]) -> str:
    """Write answers that were sampled to some prompts as lists, each with its reward."""
    return "\n\n".join(
        f"{sample['id']} `{sample['prefix']}`\n\n"
        + "\n".join(f"- {a['reward']:.3f} `{a['text']}`" for a in sample["answers"])
        for sample in samples
    )


class TensorBoardLog:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Open a new event file in `folder`; raise RuntimeError where tensorboard is missing."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as missing:
            raise RuntimeError(
                "the package tensorboard is missing: pip install tensorboard"
            ) from missing
        import yaml  # type: ignore[import-untyped]

        self._step = 0
        self._writer = SummaryWriter(str(folder))
        written = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._text("config", f"```yaml\n{written}```", step=0)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._step = step
        for name, value in numbers.items():
            self._scalar(name, value, step)

    def publish(self, run: RunFolder) -> None:
        """Write each final number as `after/<part>/<name>` at the last step, `before/…` at 0."""
        for number in numbers(run.metrics):
            name = f"{number.part}/{number.name}" if number.part else number.name
            self._scalar(f"after/{name}", number.after, self._step)
            if number.before is not None:
                self._scalar(f"before/{name}", number.before, 0)
        self._text("metrics", metrics_markdown(run.metrics), self._step)
        for step in sorted({sample["step"] for sample in run.samples}):
            at_step = [sample for sample in run.samples if sample["step"] == step]
            self._text("samples", samples_markdown(at_step), step)

    def finish(self) -> None:
        self._writer.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def _text(self, name: str, text: str, step: int) -> None:
        self._writer.add_text(name, text, step)
