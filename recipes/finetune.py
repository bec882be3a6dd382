"""Fine-tune PaliGemma with LoRA or QLoRA, judged before and after on held-out examples."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Finetune
from palitune.config.to_yaml import to_yaml
from palitune.data.dataset import load_split, load_training_split
from palitune.evaluation.evaluate import evaluate, make_validation_fn
from palitune.evaluation.scoring import metric_names
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.loading import load_for_training, load_processor
from palitune.report.run_writer import (
    create_run_folder,
    open_tracker,
    print_checks,
    write_results,
    write_skipped,
)
from palitune.training.self_check import run_self_check
from palitune.training.trainer import seed_everything, train


@recipe(Finetune)
def finetune(run: Finetune) -> None:
    train_datasets = load_training_split(run.data, run.task, run.training.split, run.seed)
    test = load_split(run.data, run.task, run.evaluation.split)
    validation = load_split(run.data, run.task, run.training.validation_split)

    run.training.check_best_metric(metric_names(validation, perplexity=run.evaluation.perplexity))

    seed_everything(run.seed)
    processor = load_processor(run.model)
    network = load_for_training(run.model, run.adapter)
    eval_fn = make_validation_fn(
        network, processor, validation, run.evaluation, max_samples=run.training.eval_max_samples
    )
    if run.training.self_check:
        print_checks(
            run_self_check(
                network, processor, train_datasets, run.training, run.augmentation, run.adapter
            )
        )

    folder = create_run_folder(
        run.output_dir,
        to_yaml(run),
        run.launch,
        train=train_datasets,
        test=test,
        validation=validation,
    )
    write_skipped(folder, train_datasets + test + validation)

    before = None
    if run.evaluate_before:
        before = evaluate(network, processor, test, run.evaluation, title="before")

    with open_tracker(run.tracking, folder) as log:
        train(
            network,
            processor,
            train_datasets,
            run.training,
            run.augmentation,
            run.launch,
            seed=run.seed,
            folder=folder,
            validation=validation,
            eval_fn=eval_fn,
            log_fn=log,
        )
        save_adapter(network, folder / "adapter", run.model)

        after = evaluate(network, processor, test, run.evaluation, title="after")
        write_results(folder, run.evaluation.split, after, before)


if __name__ == "__main__":
    finetune()
