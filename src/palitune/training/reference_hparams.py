"""What Google's reports trained a task with, and what follows from it for an adapter.

PaliGemma (arXiv 2407.07726, appendix J) gives settings by resolution. PaliGemma 2 (arXiv
2412.03555, section 4.1 and table 14) takes those of 224 px and sweeps the learning rate by size.
Both train every weight. Their weight decay is left out: it acts on the vision tower and the
connector alone. So are dropout inside the language model, and frozen towers, which each experiment
names where it had them.

A learning rate for LoRA is ten times that of full fine-tuning, the ratio that J. Schulman and
Thinking Machines Lab find best ("LoRA Without Regret", 2025) at this scale, alpha / rank = 2.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class ResolutionHparams:
    """Settings at one resolution; null: as at the lowest resolution of the table."""

    epochs: float | None = None
    """Passes over the training examples."""
    max_steps: int | None = None
    """Optimizer steps, where the report counts these or other examples than the data has rows."""
    global_batch_size: int | None = None
    """Examples per optimizer step."""
    learning_rate: float | None = None
    """Of full fine-tuning."""
    label_smoothing: float | None = None
    """Probability mass spread over the other tokens of the vocabulary."""


DEFAULT_HPARAMS = ResolutionHparams(
    epochs=1.0, global_batch_size=256, learning_rate=1e-5, label_smoothing=0.0
)
"""The report's simple recipe (PaliGemma, section 6.2), for what a table leaves out."""


@dataclass(kw_only=True)
class ReferenceHparams:
    """Tables that `training=reference_hparams` takes its settings from."""

    paligemma: dict[int, ResolutionHparams] = field(default_factory=dict)
    """Full fine-tuning of PaliGemma, by resolution in pixels."""
    paligemma2: dict[str, float] = field(default_factory=dict)
    """Learning rate of full fine-tuning of PaliGemma 2, by size; without: PaliGemma's."""
    lora_lr_multiplier: float = 10.0
    """Learning rate of LoRA over that of full fine-tuning."""

    def lookup(
        self, name: str, *, family: str, size: str | None, resolution: int | None, full: bool
    ) -> Any:
        """Return a setting for a model; one of another family is treated as PaliGemma at 224 px."""
        lowest = self.paligemma[min(self.paligemma)] if self.paligemma else DEFAULT_HPARAMS
        own = self.paligemma.get(resolution or 0, lowest) if family == "paligemma" else lowest
        chosen = {**asdict(DEFAULT_HPARAMS), **_non_null_fields(lowest), **_non_null_fields(own)}
        if name != "learning_rate":
            return chosen[name]
        rate: float = chosen[name]
        if family == "paligemma2":
            rate = self.paligemma2.get(size or "", rate)
        return rate if full else rate * self.lora_lr_multiplier


def _non_null_fields(hparams: ResolutionHparams) -> dict[str, Any]:
    return {name: value for name, value in asdict(hparams).items() if value is not None}
