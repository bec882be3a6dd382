"""What an evaluation is told."""

from dataclasses import dataclass
from enum import Enum

from palitune.data.images.resize import ResizeBackend


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


class MultipleChoiceMode(Enum):
    """How a question that brings its choices is answered."""

    generate = "generate"
    """Freely, as any other: published numbers come from it."""
    loglikelihood = "loglikelihood"
    """By the choice that is the likeliest answer, all of them being scored in one pass."""


@dataclass(kw_only=True)
class EvaluationConfig:
    split: str = "test"
    """Split to evaluate on."""
    max_samples: int | None = None
    """First N examples of every part; null: all."""
    batch_size: int = 16
    """Prompts per generation batch, of each process."""
    num_workers: int = 2
    """Processes that decode images; 0: decode in the evaluating process."""
    resize: ResizeBackend = ResizeBackend.exact
    """How images are resized: exact | fast, as in `training.resize`."""
    image_cache: str | None = None
    """Folder that keeps the resized images, as `training.image_cache`; the two may be one."""
    num_beams: int = 1
    """Answers that are followed at a time, the likeliest per token being given; 1: greedily."""
    constrained_decoding: bool = False
    """Keep answers of objects well-formed and their labels among those asked for; none is cut off
    by `task.max_new_tokens`, but ends an object earlier. Off by default: published numbers come
    from free generation, and what it garbles is to be seen."""
    multiple_choice: MultipleChoiceMode = MultipleChoiceMode.generate
    """generate | loglikelihood: how questions are answered that bring their choices, as those of
    A-OKVQA (multiple choice), AI2D and ScienceQA do; others are always answered freely. By
    loglikelihood it is the choice with the highest log-probability, summed over its tokens and EOS and
    not divided by their number: the probability that just this is answered."""
    deduplicate: bool = False
    """Leave an object out of an answer that repeats a surer one. Off by default: benchmarks count
    it as a mistake. How many there are is told either way."""
    duplicate_iou: float = 0.7
    """Overlap of two boxes of one label, in (0, 1], from which on they are duplicates."""
    bootstrap_samples: int = 1000
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
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"evaluation.max_samples must be at least 1, not {self.max_samples}")
        if self.num_workers < 0:
            raise ValueError(f"evaluation.num_workers must be at least 0, not {self.num_workers}")
        if self.num_beams < 1:
            raise ValueError(f"evaluation.num_beams must be at least 1, not {self.num_beams}")
        if not 0 < self.duplicate_iou <= 1:
            raise ValueError(
                f"evaluation.duplicate_iou must be in (0, 1], not {self.duplicate_iou}"
            )
        if self.bootstrap_samples < 0:
            raise ValueError(
                f"evaluation.bootstrap_samples must be at least 0, not {self.bootstrap_samples}"
            )
