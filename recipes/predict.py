"""Ask a base model, or an adapter (adapter.path=FOLDER), about images of your own."""

from palitune.config import Predict, recipe, to_yaml
from palitune.data.unlabeled import build_prompts, list_images
from palitune.evaluation.predict import stream_predictions
from palitune.models.loading import load_for_inference, load_processor
from palitune.report.naming import model_facts
from palitune.report.pages.predictions import write_prediction_report
from palitune.report.run_writer import create_run_folder, print_checks
from palitune.tasks.infer_task import infer_task


@recipe(Predict)
def predict(run: Predict) -> None:
    question = infer_task(run.prompt, run.task, run.mixture_tasks())
    found = list_images(run.images)
    skip = run.skip_unreadable
    images = build_prompts(
        found,
        question,
        max_samples=run.evaluation.max_samples,
        skip_unreadable=skip,
        multi_image=run.multi_image,
        video_sampling=run.frames,
    )
    print_checks([question.describe(), images.summary(), *question.task.warnings()])

    processor = load_processor(run.model)
    network = load_for_inference(run.model, run.adapter)

    folder = create_run_folder(run.output_dir, to_yaml(run), run.launch)
    answers = stream_predictions(
        network,
        processor,
        images.examples,
        question.task,
        run.evaluation,
        skip_unreadable=skip,
    )
    write_prediction_report(
        folder,
        question,
        answers,
        facts=model_facts(run.model, run.adapter),
        skipped=images.unreadable,
        max_cards=run.max_shown,
    )


if __name__ == "__main__":
    predict()
