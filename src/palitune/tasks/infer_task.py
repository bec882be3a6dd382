"""What is asked of images that have no annotations: a prompt, and the task that reads the answers.

The first word of a prompt tells the task, as in PaliGemma's pre-training: `detect`, `segment`,
`ocr`, `caption`, `answer`; an answer to anything else is read as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks.base import Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection, PromptClasses
from palitune.tasks.grounded_caption import GroundedCaption
from palitune.tasks.ocr import Ocr
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.text import Text
from palitune.tasks.vqa import Vqa


@dataclass(frozen=True, kw_only=True)
class TaskPrompt:
    """A prompt for every image, the task that reads the answers, and why that one."""

    prompt: str
    task: Task
    reason: str
    """`task=...`, or what of the prompt told the task."""

    def describe(self) -> str:
        """Say what is asked and how answers are read."""
        return f"asked: {self.prompt!r}, answers read as {self.task.name} ({self.reason})"


def infer_task(
    prompt: str | None, task: Task | None, candidates: Sequence[Task] = ()
) -> TaskPrompt:
    """Settle prompt and task, of which one may be missing.

    `known` are tasks of an earlier run: the first of the inferred kind is taken with its settings.
    Raises DataError where the task cannot write a prompt for an image without annotations.
    """
    if task is not None:
        because = f"task={task.name}"
        return TaskPrompt(prompt=prompt or _default_prompt(task), task=task, reason=because)
    if prompt is None:
        raise DataError("prompt is missing: write prompt='detect boat', or choose a task")
    inferred, because = task_from_prompt(prompt)
    same = (task for task in candidates if type(task) is type(inferred))
    return TaskPrompt(prompt=prompt, task=next(same, inferred), reason=because)


def task_from_prompt(prompt: str) -> tuple[Task, str]:
    """Return the task that a prompt means, and why."""
    verb, _, rest = prompt.strip().partition(" ")
    because = f"inferred from {verb!r}; task=... overrides it"
    match verb.lower():
        case "detect":
            return Detection(classes=_split_classes(rest)), because
        case "segment":
            return Segmentation(classes=_split_classes(rest)), because
        case "ocr":
            return Ocr(), because
        case "caption" if "<loc" in rest:
            return GroundedCaption(), because
        case "caption":
            return Caption(), because
        case "answer":
            return Vqa(), because
    return Text(), "its first word names no other task; task=... overrides it"


def _split_classes(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(";")) if name]


def _default_prompt(task: Task) -> str:
    """Have the task write the prompt of an image of which nothing is known."""
    if isinstance(task, Detection):
        task = replace(
            task, prompt_classes=PromptClasses.all
        )  # which classes are present is what is to be found out
    nothing = Row(id="", images=(), size=(1, 1), location=f"task={task.name}")
    try:
        return task.prefix(nothing)
    except DataError as mistake:
        raise DataError(f"{mistake}, or write prompt='...'") from mistake
