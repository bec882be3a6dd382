"""Prompt and task for images without annotations.

The task is inferred from the first word of the prompt, as in PaliGemma's pre-training: `detect`,
`segment`, `ocr`, `caption`, `answer`; answers to `extract json` are parsed as JSON, and answers to
other prompts as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks.base import Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection, PromptClasses
from palitune.tasks.grounded_caption import GroundedCaption
from palitune.tasks.json_task import Json
from palitune.tasks.ocr import Ocr
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.text import Text
from palitune.tasks.vqa import Vqa


@dataclass(frozen=True, kw_only=True)
class TaskPrompt:
    """A prompt for every image, the task that parses the answers, and the reason for the task."""

    prompt: str
    task: Task
    reason: str
    """`task=...`, or the part of the prompt that determined the task."""

    def describe(self) -> str:
        """Return one line about the prompt and the task."""
        return f"prompt: {self.prompt!r}, answers parsed as {self.task.name} ({self.reason})"


def infer_task(
    prompt: str | None, task: Task | None, candidates: Sequence[Task] = ()
) -> TaskPrompt:
    """Return prompt and task, one of which may be missing.

    Args:
        prompt: Prompt for every image; None: the prompt that the task writes.
        task: Task that parses the answers; None: inferred from the prompt.
        candidates: Tasks of an earlier run; the first one of the inferred type is used.

    Raises:
        DataError: The task cannot write a prompt for an image without annotations.
    """
    if task is not None:
        reason = f"task={task.name}"
        return TaskPrompt(prompt=prompt or _default_prompt(task), task=task, reason=reason)
    if prompt is None:
        raise DataError("prompt is missing. Set prompt, e.g. prompt='detect boat', or task.")
    inferred, reason = task_from_prompt(prompt)
    same = (task for task in candidates if type(task) is type(inferred))
    return TaskPrompt(prompt=prompt, task=next(same, inferred), reason=reason)


def task_from_prompt(prompt: str) -> tuple[Task, str]:
    """Return the task inferred from a prompt, and the reason."""
    verb, _, rest = prompt.strip().partition(" ")
    reason = f"inferred from {verb!r}; task=... overrides it"
    match verb.lower():
        case "detect":
            return Detection(classes=_split_classes(rest)), reason
        case "segment":
            return Segmentation(classes=_split_classes(rest)), reason
        case "ocr":
            return Ocr(), reason
        case "caption" if "<loc" in rest:
            return GroundedCaption(), reason
        case "caption":
            return Caption(), reason
        case "answer":
            return Vqa(), reason
        case "extract" if rest.strip().lower() == "json":
            return Json(), "inferred from 'extract json'; task=... overrides it"
    return Text(), "its first word names no other task; task=... overrides it"


def _split_classes(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(";")) if name]


def _default_prompt(task: Task) -> str:
    """Return the prompt that the task writes for an image without annotations."""
    if isinstance(task, Detection):
        task = replace(task, prompt_classes=PromptClasses.all)  # the classes present are unknown
    empty_row = Row(id="", images=(), size=(1, 1), location=f"task={task.name}")
    try:
        return task.prefix(empty_row)
    except DataError as error:
        raise DataError(f"{error}, or write prompt='...'") from error
