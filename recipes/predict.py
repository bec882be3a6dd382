"""Run the base model, or an adapter (adapter.path=FOLDER), on new images."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Predict
from palitune.config.to_yaml import to_yaml


@recipe(Predict)
def predict(run: Predict) -> None:
    from palitune.data.unlabeled import build_prompts, list_images
    from palitune.evaluation.active_learning.rank_predictions import rank_predictions
    from palitune.evaluation.object_quality.min_score import resolve_min_score
    from palitune.evaluation.predict import stream_predictions
    from palitune.models.loading import load_for_inference, load_processor
    from palitune.report.naming import model_facts
    from palitune.report.pages.predictions import write_prediction_report
    from palitune.report.pages.to_label import write_ranking
    from palitune.report.run_writer import create_run_folder, print_checks
    from palitune.tasks.infer_task import infer_task

    task_prompt = infer_task(run.prompt, run.task, run.mixture_tasks())
    prompts = build_prompts(
        list_images(run.images),
        task_prompt,
        max_samples=run.evaluation.max_samples,
        skip_unreadable=run.skip_unreadable,
        multi_image=run.multi_image,
        video_sampling=run.frames,
    )
    run.check_formats(task_prompt.task, [example.id for example in prompts.examples])
    print_checks([task_prompt.describe(), prompts.summary(), *task_prompt.task.warnings()])
    thresholds = resolve_min_score(run.min_score, run.adapter.path, task_prompt.task.name)
    if run.min_score:
        print_checks([thresholds.describe()])

    processor = load_processor(run.model)
    network = load_for_inference(run.model, run.adapter)
    folder = create_run_folder(run.output_dir, to_yaml(run), run.launch)
    predictions = stream_predictions(
        network,
        processor,
        prompts.examples,
        task_prompt.task,
        run.evaluation,
        skip_unreadable=run.skip_unreadable,
        thresholds=thresholds,
    )
    predicted = write_prediction_report(
        folder,
        task_prompt,
        predictions,
        facts=model_facts(run.model, run.adapter),
        skipped=prompts.unreadable,
        max_cards=run.max_shown,
        save=run.save,
        keep=run.rank is not None,
    )
    if run.rank and predicted:
        settings = run.rank, run.rank_count, run.evaluation
        ranked = rank_predictions(network, processor, predicted, *settings)
        write_ranking(folder, ranked, predicted, run.rank, run.max_shown)


if __name__ == "__main__":
    predict()
