"""Check that a training would do what it says: mask, labels, tokens, adapter. Trains nothing."""

from pathlib import Path

from palitune import data, models, report, training
from palitune.config import Check, recipe


@recipe(Check)
def check(run: Check) -> None:
    report.say(report.told(report.environment(Path(run.output_dir))))
    train = data.load_training(run.data, run.task, run.training.split, run.seed)
    training.seed(run.seed)
    processor = models.load_processor(run.model)
    network = models.load_trainable(run.model, run.adapter)
    report.say(
        training.check(network, processor, train, run.training, run.augmentation, run.adapter)
    )


if __name__ == "__main__":
    check()
