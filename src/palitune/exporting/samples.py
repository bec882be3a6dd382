"""What an export is compared on: the run's examples, a prompt of the user's, a page of digits."""

from itertools import chain, islice, zip_longest
from pathlib import Path

from palitune import data
from palitune.data import Data
from palitune.data.images import read_size
from palitune.data.sources.handwriting import EMBEDDED
from palitune.examples import Example
from palitune.exporting.settings import Exporting
from palitune.tasks import Task

PAGE = EMBEDDED / "handwriting" / "images" / "test-0001.png"
PROMPT = "caption en"


def take_samples(
    settings: Exporting, source: Data | None, task: Task | None, split: str
) -> list[Example]:
    """Give the examples to compare on."""
    prompt = settings.prompt or PROMPT
    if settings.image is not None:
        return [_asked(Path(settings.image).expanduser(), prompt)]
    if source is None:
        return [_asked(PAGE, prompt)]
    parts = [part.examples for part in data.load(source, task, split, unanswered=True)]
    few = [[part[n] for n in range(min(settings.samples, len(part)))] for part in parts]
    dealt = (one for one in chain.from_iterable(zip_longest(*few)) if one is not None)
    return list(islice(dealt, settings.samples))


def _asked(image: Path, prompt: str) -> Example:
    return Example(
        id=image.name,
        images=(str(image),),
        size=read_size(image),
        prefix=prompt,
        suffixes=(),
        reference=(),
        place=f"image={image}",
    )
