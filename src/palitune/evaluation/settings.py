"""What an evaluation is told."""

from dataclasses import dataclass
from enum import Enum


class Submission(Enum):
    """The test server or official program that a file of results is written for."""

    docvqa = "docvqa"
    infovqa = "infovqa"
    stvqa = "stvqa"
    vqav2 = "vqav2"
    textvqa = "textvqa"
    vizwiz = "vizwiz"
    coco_captions = "coco_captions"
    coco_detection = "coco_detection"
    coco_segmentation = "coco_segmentation"
    refcoco = "refcoco"


@dataclass(kw_only=True)
class Evaluation:
    split: str = "test"
    """Split to evaluate on."""
    limit: int | None = None
    """First N examples of every part; null: all."""
    batch_size: int = 16
    """Prompts per generation batch, of each process."""
    workers: int = 2
    """Processes that decode images; 0: decode in the evaluating process."""
    resamples: int = 1000
    """Resampled test sets behind every 95 % interval; 0: no intervals."""
    slices: bool = True
    """Tell the numbers by length of the answer, class, size and number of objects, too."""
    perplexity: bool = False
    """Tell how probable the model finds the references, too (one more pass over the examples)."""
    submission: Submission | None = None
    """Write `submission.json` for a test server: docvqa | infovqa | stvqa | vqav2 | textvqa |
    vizwiz | coco_captions | coco_detection | coco_segmentation | refcoco."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"evaluation.batch_size must be at least 1, not {self.batch_size}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"evaluation.limit must be at least 1, not {self.limit}")
        if self.workers < 0:
            raise ValueError(f"evaluation.workers must be at least 0, not {self.workers}")
        if self.resamples < 0:
            raise ValueError(f"evaluation.resamples must be at least 0, not {self.resamples}")
