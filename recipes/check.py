"""Run the self-check of a training on its network and data, without training."""

from pathlib import Path

from palitune.cli.recipe import recipe
from palitune.config.recipes import Check


@recipe(Check)
def check(run: Check) -> None:
    from transformers import set_seed

    from palitune.data.dataset import load_training_split
    from palitune.models.loading import load_for_training, load_processor
    from palitune.report.environment import environment, format_environment
    from palitune.report.run_writer import print_checks
    from palitune.training.data import build_training_data
    from palitune.training.micro_batch_size import resolve_micro_batch_size
    from palitune.training.self_check import run_self_check

    print_checks(format_environment(environment(Path(run.output_dir))))
    components = load_training_split(run.data, run.task, run.training.split, run.seed)

    set_seed(run.seed)
    processor = load_processor(run.model)
    network = load_for_training(run.model, run.adapter)

    data = build_training_data(processor, components, run.training, run.augmentation, run.seed)
    run.training = resolve_micro_batch_size(run.training, network, data)
    print_checks(run_self_check(network, data, run.training, run.adapter))


if __name__ == "__main__":
    check()
