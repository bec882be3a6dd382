"""Hyperparameters of Google's reports by task, and the values derived from them for an adapter.

PaliGemma (arXiv 2407.07726, appendix J) lists settings by resolution. PaliGemma 2 (arXiv
2412.03555, section 4.1 and table 14) uses those of 224 px and tunes the learning rate by size.
Both train all weights. Their weight decay is omitted because it applies only to the vision tower
and the connector. Dropout inside the language model and frozen towers are omitted, too; experiments
that had them document it.

The learning rate of LoRA is ten times that of full fine-tuning, the best ratio according to
J. Schulman and Thinking Machines Lab ("LoRA Without Regret", 2025) at this scale, alpha / rank = 2.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class ResolutionHparams:
    """Settings at one resolution; null: those of the lowest resolution in the table."""

    epochs: float | None = None
    """Passes over the training examples."""
    max_steps: int | None = None
    """Optimizer steps, if the report states them or its number of examples differs from ours."""
    global_batch_size: int | None = None
    """Examples per optimizer step over all devices."""
    learning_rate: float | None = None
    """Peak learning rate of full fine-tuning."""
    label_smoothing: float | None = None
    """Probability mass spread evenly over the other tokens of the vocabulary."""


DEFAULT_HPARAMS = ResolutionHparams(
    epochs=1.0, global_batch_size=256, learning_rate=1e-5, label_smoothing=0.0
)
"""The simple recipe of PaliGemma's report (section 6.2), for settings that a table omits."""


@dataclass(kw_only=True)
class ReferenceHparams:
    """Tables from which `training=reference_hparams` takes its settings."""

    paligemma: dict[int, ResolutionHparams] = field(default_factory=dict)
    """Full fine-tuning of PaliGemma, by resolution in pixels."""
    paligemma2: dict[str, float] = field(default_factory=dict)
    """Learning rate of full fine-tuning of PaliGemma 2, by size; default: PaliGemma's."""
    lora_lr_multiplier: float = 10.0
    """Learning rate of LoRA divided by that of full fine-tuning."""

    def lookup(
        self, name: str, *, family: str, size: str | None, resolution: int | None, full: bool
    ) -> Any:
        """Return a setting for a model.

        Args:
            name: Field of ResolutionHparams.
            family: "paligemma" or "paligemma2"; another one is treated as PaliGemma at 224 px.
            size: Size of the model, e.g. "3b".
            resolution: Image resolution in pixels.
            full: Whether all weights are trained, instead of a LoRA adapter.
        """
        lowest = self.paligemma[min(self.paligemma)] if self.paligemma else DEFAULT_HPARAMS
        exact = self.paligemma.get(resolution or 0, lowest) if family == "paligemma" else lowest
        chosen = {**asdict(DEFAULT_HPARAMS), **_non_null_fields(lowest), **_non_null_fields(exact)}
        if name != "learning_rate":
            return chosen[name]
        rate: float = chosen[name]
        if family == "paligemma2":
            rate = self.paligemma2.get(size or "", rate)
        return rate if full else rate * self.lora_lr_multiplier


def _non_null_fields(hparams: ResolutionHparams) -> dict[str, Any]:
    return {name: value for name, value in asdict(hparams).items() if value is not None}
