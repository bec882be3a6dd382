"""A value of the command line arrives where its key says."""

from palitune.config import compose
from palitune.data.sources.coco import Coco
from palitune.tasks.detection import Detection, PromptClasses

from support.config_errors import BOATS


def test_values_arrive_with_the_types_of_their_fields() -> None:
    run = compose(
        "finetune",
        [
            *BOATS,
            "task.classes=[boat,buoy]",
            "task.prompt_classes=present",
            "training.learning_rate=1e-4",
            "training.max_steps=null",
            "data.splits.train=my/boats.json",
            "data.splits={test: other.json}",
            "evaluate_before=false",
        ],
    )
    assert isinstance(run.task, Detection)
    assert (run.task.classes, run.task.prompt_classes) == (["boat", "buoy"], PromptClasses.present)
    assert (run.training.learning_rate, run.training.max_steps) == (1e-4, None)
    assert isinstance(run.data, Coco)
    assert run.data.splits == {"train": "my/boats.json", "test": "other.json"}
    assert run.evaluate_before is False
