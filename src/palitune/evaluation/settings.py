"""What an evaluation is told."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class Evaluation:
    split: str = "test"
    """Split to evaluate on."""
    limit: int | None = None
    """First N examples of every part; null: all."""
    batch_size: int = 16
    """Prompts per generation batch."""
    workers: int = 2
    """Processes that decode images; 0: decode in the evaluating process."""
    resamples: int = 1000
    """Resampled test sets behind every 95 % interval; 0: no intervals."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"evaluation.batch_size must be at least 1, not {self.batch_size}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"evaluation.limit must be at least 1, not {self.limit}")
        if self.workers < 0:
            raise ValueError(f"evaluation.workers must be at least 0, not {self.workers}")
        if self.resamples < 0:
            raise ValueError(f"evaluation.resamples must be at least 0, not {self.resamples}")
