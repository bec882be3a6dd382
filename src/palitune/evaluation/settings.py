"""What an evaluation is told."""

from dataclasses import dataclass
from enum import Enum

from palitune.data.pixels import Images


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


class Choices(Enum):
    """How a question that brings its choices is answered."""

    generate = "generate"
    """Freely, as any other: published numbers come from it."""
    likelihood = "likelihood"
    """By the choice that is the likeliest answer, all of them being scored in one pass."""


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
    images: Images = Images.exact
    """How images are resized: exact | fast, as in `training.images`."""
    image_store: str | None = None
    """Folder that keeps the resized images, as `training.image_store`; the two may be one."""
    beams: int = 1
    """Answers that are followed at a time, the likeliest per token being given; 1: greedily."""
    grammar: bool = False
    """Keep answers of objects well-formed and their labels among those asked for; none is cut off
    by `task.max_new_tokens`, but ends an object earlier. Off by default: published numbers come
    from free generation, and what it garbles is to be seen."""
    choices: Choices = Choices.generate
    """generate | likelihood: how questions are answered that bring their choices, as those of
    A-OKVQA (multiple choice), AI2D and ScienceQA do; others are always answered freely. By
    likelihood it is the choice with the highest log-probability, summed over its tokens and EOS and
    not divided by their number: the probability that just this is answered."""
    drop_duplicates: bool = False
    """Leave an object out of an answer that repeats a surer one. Off by default: benchmarks count
    it as a mistake. How many there are is told either way."""
    duplicate_iou: float = 0.7
    """Overlap of two boxes of one label, in (0, 1], from which on they are duplicates."""
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
        if self.beams < 1:
            raise ValueError(f"evaluation.beams must be at least 1, not {self.beams}")
        if not 0 < self.duplicate_iou <= 1:
            raise ValueError(
                f"evaluation.duplicate_iou must be in (0, 1], not {self.duplicate_iou}"
            )
        if self.resamples < 0:
            raise ValueError(f"evaluation.resamples must be at least 0, not {self.resamples}")
