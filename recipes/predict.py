"""Ask a base model, or an adapter (adapter.path=FOLDER), about images of your own."""

from palitune import data, evaluation, models, report, tasks
from palitune.config import Predict, recipe, to_yaml


@recipe(Predict)
def predict(run: Predict) -> None:
    question = tasks.question(run.prompt, run.task, run.known_tasks())
    found = data.find_images(run.images)
    skip = run.skip_unreadable
    images = data.ask_images(
        found,
        question,
        limit=run.evaluation.limit,
        skip_unreadable=skip,
        together=run.together,
        frames=run.frames,
    )
    report.say([question.told(), images.told(), *question.task.remarks()])

    processor = models.load_processor(run.model)
    network = models.load_trained(run.model, run.adapter)

    folder = report.open_run(run.output_dir, to_yaml(run), run.launch)
    answers = evaluation.predict(
        network,
        processor,
        images.examples,
        question.task,
        run.evaluation,
        skip_unreadable=skip,
    )
    report.show_predictions(
        folder,
        question,
        answers,
        facts=report.made_by(run.model, run.adapter),
        unreadable=images.unreadable,
        shown=run.shown,
    )


if __name__ == "__main__":
    predict()
