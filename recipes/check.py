"""Check that a training would do what it says: mask, labels, tokens, adapter. Trains nothing."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.recipes import Check
from palitune.data.dataset import load_training_split
from palitune.models.loading import load_for_training, load_processor
from palitune.report.environment import environment, format_environment
from palitune.report.run_writer import print_checks
from palitune.training.self_check import run_self_check
from palitune.training.trainer import seed_everything


@recipe(Check)
def check(run: Check) -> None:
    print_checks(format_environment(environment(Path(run.output_dir))))
    train = load_training_split(run.data, run.task, run.training.split, run.seed)
    seed_everything(run.seed)
    processor = load_processor(run.model)
    network = load_for_training(run.model, run.adapter)
    print_checks(
        run_self_check(network, processor, train, run.training, run.augmentation, run.adapter)
    )


if __name__ == "__main__":
    check()
