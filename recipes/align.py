"""Tune an adapter by rewards of sampled answers (GRPO, RLOO) or by preferences (DPO)."""

from palitune import alignment, data, evaluation, models, report, training
from palitune.config import Align, recipe, to_yaml


@recipe(Align)
def align(run: Align) -> None:
    train = data.load_training(run.data, run.task, run.training.split, run.seed)
    test = data.load(run.data, run.task, run.evaluation.split)
    validation = data.load(run.data, run.task, run.training.validation_split)
    report.say(alignment.check(train, run.adapter, run))

    training.seed(run.seed)
    processor = models.load_processor(run.model)
    network = models.load_trainable(run.model, run.adapter)
    measure = evaluation.measure(network, processor, validation, run.evaluation, run.training)
    if run.training.self_check:
        report.say(
            training.check(network, processor, train, run.training, run.augmentation, run.adapter)
        )

    folder = report.open_run(
        run.output_dir,
        to_yaml(run),
        run.launch,
        train=train,
        test=test,
        validation=validation,
    )
    report.list_skipped(folder, train + test + validation)

    before = None
    if run.evaluate_before:
        before = evaluation.evaluate(network, processor, test, run.evaluation, title="before")

    with report.tracked(run.tracking, folder) as log:
        alignment.train(
            network,
            processor,
            train,
            run,
            run.training,
            run.augmentation,
            seed=run.seed,
            folder=folder,
            measure=measure,
            log=log,
        )
        models.save_adapter(network, folder / "adapter", run.model)

        after = evaluation.evaluate(network, processor, test, run.evaluation, title="after")
        report.finish(folder, run.evaluation.split, after, before)


if __name__ == "__main__":
    align()
