"""Examples of the parity check: of the dataset, of a given image, or a page of digits."""

from itertools import chain, zip_longest
from pathlib import Path

from palitune.data.dataset import load_split
from palitune.data.images.io import read_size
from palitune.data.sources.base import Data
from palitune.data.sources.embedded import EMBEDDED_FOLDER
from palitune.export.config import ExportConfig
from palitune.records import Example
from palitune.tasks import Task

DEFAULT_IMAGE = EMBEDDED_FOLDER / "handwriting" / "images" / "test-0001.png"
DEFAULT_PROMPT = "caption en"


def select_parity_examples(
    settings: ExportConfig, source: Data | None, task: Task | None, split: str
) -> list[Example]:
    """Return the examples of the parity check.

    Args:
        settings: Export settings.
        source: Dataset; its first examples are used, alternating between its components.
        task: Task of the dataset.
        split: Split of the dataset.
    """
    prompt = settings.prompt or DEFAULT_PROMPT
    if settings.image is not None:
        return [_prompt_example(Path(settings.image).expanduser(), prompt)]
    if source is None:
        return [_prompt_example(DEFAULT_IMAGE, prompt)]
    datasets = load_split(source, task, split, allow_missing_references=True)
    first_examples = [
        [dataset.examples[n] for n in range(min(settings.samples, len(dataset.examples)))]
        for dataset in datasets
    ]
    alternating = chain.from_iterable(zip_longest(*first_examples))
    return [example for example in alternating if example is not None][: settings.samples]


def _prompt_example(image: Path, prompt: str) -> Example:
    return Example(
        id=image.name,
        images=(str(image),),
        size=read_size(image),
        prefix=prompt,
        suffixes=(),
        reference=(),
        location=f"image={image}",
    )
