"""Look through your data with the eyes of task and tokenizer: numbers, faults, drawn samples."""

from palitune import data, models, report
from palitune.config import Inspect, recipe, to_yaml


@recipe(Inspect)
def inspect(run: Inspect) -> None:
    processor = models.load_processor(run.model)
    look = data.Look(
        splits=run.splits,
        train=run.training.split,
        max_length=run.training.max_length,
        samples=run.samples,
        ceiling_images=run.ceiling_images,
    )
    inspected = data.inspect(run.data, run.task, processor, look)

    folder = report.open_run(run.output_dir, to_yaml(run))
    report.show_inspection(folder, inspected, data.findings(inspected, look), run.model)


if __name__ == "__main__":
    inspect()
