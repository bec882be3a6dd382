"""Inspect your data as the model will see it: statistics, errors and sample images."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Inspect
from palitune.config.to_yaml import to_yaml


@recipe(Inspect)
def inspect(run: Inspect) -> None:
    from palitune.data.inspection.augmented_views import augment_samples
    from palitune.data.inspection.scan import InspectionConfig, scan
    from palitune.data.inspection.warnings import inspection_warnings
    from palitune.models.loading import load_processor
    from palitune.report.pages.inspection import write_inspection_report
    from palitune.report.pages.label_errors import report_label_errors
    from palitune.report.run_writer import create_run_folder

    processor = load_processor(run.model)
    settings = InspectionConfig(
        splits=run.splits,
        train_split=run.training.split,
        max_length=run.training.max_length,
        num_samples=run.samples,
        codec_samples=run.codec_samples,
    )
    inspection = scan(run.data.dataset_specs(run.task), processor, settings)

    folder = create_run_folder(run.output_dir, to_yaml(run))
    warnings = inspection_warnings(inspection, settings)
    augmented = [
        sample
        for split in inspection.splits
        if split.split == run.training.split
        for sample in augment_samples(split.samples, split.task, run.augmentation, run.seed)
    ]
    write_inspection_report(folder, inspection, warnings, run.model, augmented)
    report_label_errors(
        folder,
        run.predictions or run.earlier_run,
        required=run.predictions is not None,
        max_cards=run.suspects,
    )
    if run.strict:
        inspection.raise_for_bad_rows()


if __name__ == "__main__":
    inspect()
