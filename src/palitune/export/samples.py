"""What an export is compared on: the run's examples, a prompt of the user's, a page of digits."""

from itertools import chain, islice, zip_longest
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
    """Give the examples to compare on."""
    prompt = settings.prompt or DEFAULT_PROMPT
    if settings.image is not None:
        return [_prompt_example(Path(settings.image).expanduser(), prompt)]
    if source is None:
        return [_prompt_example(DEFAULT_IMAGE, prompt)]
    parts = [
        part.examples for part in load_split(source, task, split, allow_missing_references=True)
    ]
    few = [[part[n] for n in range(min(settings.samples, len(part)))] for part in parts]
    dealt = (one for one in chain.from_iterable(zip_longest(*few)) if one is not None)
    return list(islice(dealt, settings.samples))


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
