"""Look through your data with the eyes of task and tokenizer: numbers, faults, drawn samples."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Inspect
from palitune.config.to_yaml import to_yaml
from palitune.data.inspection.scan import InspectionConfig, scan
from palitune.data.inspection.warnings import inspection_warnings
from palitune.models.loading import load_processor
from palitune.report.pages.inspection import write_inspection_report
from palitune.report.run_writer import create_run_folder


@recipe(Inspect)
def inspect(run: Inspect) -> None:
    processor = load_processor(run.model)
    look = InspectionConfig(
        splits=run.splits,
        train_split=run.training.split,
        max_length=run.training.max_length,
        num_samples=run.samples,
        codec_samples=run.codec_samples,
    )
    inspected = scan(run.data.dataset_specs(run.task), processor, look)

    folder = create_run_folder(run.output_dir, to_yaml(run))
    write_inspection_report(folder, inspected, inspection_warnings(inspected, look), run.model)


if __name__ == "__main__":
    inspect()
