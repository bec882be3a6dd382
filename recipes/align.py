"""Tune an adapter with rewards of sampled generations (GRPO, RLOO) or preference pairs (DPO)."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Align
from palitune.config.to_yaml import to_yaml
from palitune.config.trained_adapter import save_trained_adapter


@recipe(Align)
def align(run: Align) -> None:
    from transformers import set_seed

    from palitune.alignment import methods
    from palitune.alignment.run import AlignmentRun
    from palitune.data.dataset import load_split, load_training_split
    from palitune.evaluation.evaluate import evaluate, make_validation_fn
    from palitune.evaluation.scoring import metric_names
    from palitune.models.loading import describe_network, load_for_training, load_processor
    from palitune.report import run_writer
    from palitune.training.data import build_training_data
    from palitune.training.micro_batch_size import resolve_micro_batch_size
    from palitune.training.self_check import run_self_check
    from palitune.training.state.resume import check_resumable

    components = load_training_split(run.data, run.task, run.training.split, run.seed)
    test = load_split(run.data, run.task, run.evaluation.split)
    validation = load_split(run.data, run.task, run.training.validation_split)
    run_writer.print_checks(methods.check_alignment(components, run.adapter, run))
    run.training.check_best_metric(metric_names(validation, perplexity=run.evaluation.perplexity))

    set_seed(run.seed)
    processor = load_processor(run.model)
    network = load_for_training(run.model, run.adapter)
    eval_fn = make_validation_fn(
        network, processor, validation, run.evaluation, max_samples=run.training.eval_max_samples
    )

    augmentation = methods.effective_augmentation(run, run.augmentation)
    data = build_training_data(processor, components, run.training, augmentation, run.seed)
    run.training = resolve_micro_batch_size(run.training, network, data, measure=False)
    if run.training.self_check:
        run_writer.print_checks(run_self_check(network, data, run.training, run.adapter))

    check_resumable(network, data, run.training, run.output_dir, compare_examples=False)
    folder = run_writer.create_run_folder(
        run.output_dir, to_yaml(run), run.launch, network=describe_network(network),
        train=components, test=test, validation=validation,
    )  # fmt: skip

    before = None
    if run.evaluate_before:
        before = evaluate(network, processor, test, run.evaluation, title="before")

    with run_writer.open_tracker(run.tracking, folder) as log:
        methods.run_alignment(AlignmentRun(
            network=network, processor=processor, data=data, config=run, settings=run.training,
            folder=folder, eval_fn=eval_fn, log_fn=log,
        ))  # fmt: skip
        stored = save_trained_adapter(folder, network, processor, run, components, validation)
        run_writer.print_checks(stored)

        after = evaluate(network, processor, test, run.evaluation, title="after")
        run_writer.write_results(folder, run.evaluation.split, after, before)


if __name__ == "__main__":
    align()
