"""Registry of the tasks by name; each name is also a file in `conf/task/`."""

from palitune.tasks.base import Task
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.grounded_caption import GroundedCaption
from palitune.tasks.infer_task import TaskPrompt, infer_task
from palitune.tasks.json_task import Json
from palitune.tasks.ocr import Ocr
from palitune.tasks.referring_detection import ReferringDetection
from palitune.tasks.referring_segmentation import ReferringSegmentation
from palitune.tasks.science_qa import ScienceQa
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.table_structure import TableStructure
from palitune.tasks.text import Text
from palitune.tasks.text_spotting import TextSpotting
from palitune.tasks.vqa import Vqa

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        Caption,
        GroundedCaption,
        Vqa,
        ScienceQa,
        Ocr,
        TextSpotting,
        TableStructure,
        Json,
        Detection,
        ReferringDetection,
        Segmentation,
        ReferringSegmentation,
        Text,
    )
}

__all__ = ["TASKS", "Task", "TaskPrompt", "infer_task"]
