"""Settings for evaluation."""

from collections.abc import Sized
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from annotated_types import Ge, Gt, Le

from palitune.data.images.resize import ResizeBackend
from palitune.errors import check_ranges
from palitune.evaluation.tiles.config import InferenceTiles


class Submission(Enum):
    """The test server or official program that reads the result file."""

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


class MultipleChoiceMode(Enum):
    """How questions with a list of choices are answered."""

    generate = "generate"
    """By free generation, as in published results."""
    loglikelihood = "loglikelihood"
    """By the choice with the highest log-probability; all choices are scored in one pass."""


@dataclass(kw_only=True)
class EvaluationConfig:
    split: str = "test"
    """Split to evaluate on."""
    max_samples: Annotated[int | None, Ge(1)] = None
    """Evaluate only the first N examples of each component (null: all)."""
    batch_size: Annotated[int, Ge(1)] = 16
    """Prompts per generation batch, per device."""
    num_workers: Annotated[int | None, Ge(0)] = None
    """Data loader processes per device that decode images (0: decode in the main process; null: one
    less than the CPU cores per device, from 1 to 8)."""
    resize: ResizeBackend = ResizeBackend.exact
    """Resize backend: exact | fast, as in `training.resize`."""
    image_cache: str | None = None
    """Folder for resized images, as in `training.image_cache`; both can share one folder."""
    num_beams: Annotated[int, Ge(1)] = 1
    """Number of beams; the result is the beam with the highest log-probability per token
    (1: greedy decoding)."""
    cuda_graphs: bool = False
    """Record the decoding step as a CUDA graph, so that short steps are not limited by the host;
    CUDA only, and not measured yet."""
    constrained_decoding: bool = False
    """Generate only well-formed objects with the labels in the prompt. An answer close to
    `task.max_new_tokens` may contain one object fewer than would fit. Off by default, because
    published results come from free generation."""
    multiple_choice: MultipleChoiceMode = MultipleChoiceMode.generate
    """How questions with choices (A-OKVQA multiple choice, AI2D, ScienceQA) are answered:
    generate | loglikelihood. `loglikelihood` picks the choice with the highest log-probability,
    summed over its tokens and EOS without length normalization. Other questions are always answered
    by generation."""
    deduplicate: bool = False
    """Remove objects that repeat a more confident one before scoring. Off by default, because
    benchmarks count duplicates as errors. The number of duplicates is reported in both cases."""
    duplicate_iou: Annotated[float, Gt(0), Le(1)] = 0.7
    """IoU from which two boxes with the same label count as duplicates."""
    bootstrap_samples: Annotated[int, Ge(0)] = 1000
    """Resampled test sets for the 95 % confidence intervals (0: no intervals)."""
    slices: bool = True
    """Also report metrics by answer length, class, object size and number of objects, and the types
    of errors of boxes and masks with the average precision that they cost."""
    perplexity: bool = False
    """Also report the perplexity of the references (one more pass over the examples)."""
    tiles: InferenceTiles | None = None
    """Ask about overlapping tiles of each image instead of the whole image, and merge their
    objects: {size: 448, overlap: 0.2}; null: whole images. Metrics are those of the whole image."""
    submission: Submission | None = None
    """Write `submission.json` for a test server: docvqa | infovqa | stvqa | vqav2 | textvqa |
    vizwiz | coco_captions | coco_detection | coco_segmentation | refcoco."""

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation")
        if self.tiles is not None and self.perplexity:
            raise ValueError(
                "evaluation.perplexity must be false with evaluation.tiles, because a tile has no "
                "reference. Set evaluation.perplexity=false."
            )

    def num_examples(self, examples: Sized) -> int:
        """Return the number of examples of a component to evaluate, the first `max_samples`."""
        return min(self.max_samples or len(examples), len(examples))
