"""Predict memory, time and disk space of a training run, without training."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Plan
from palitune.config.to_yaml import to_yaml


@recipe(Plan)
def plan(run: Plan) -> None:
    from palitune.planning.gpus import planned_gpu
    from palitune.planning.plan import (
        calibrate_memory,
        plan_training,
        with_largest_micro_batch_size,
    )
    from palitune.planning.workload import AssumedLengths, measure_workload
    from palitune.report.pages.plan import write_plan_report
    from palitune.report.run_writer import create_run_folder
    from palitune.training.config import AUTO
    from palitune.training.micro_batch_size import with_default_micro_batch_size

    assumed = AssumedLengths(run.prefix_tokens, run.suffix_tokens, run.examples)
    training = with_default_micro_batch_size(run.training)
    workload = measure_workload(run.data, run.task, run.model, training, assumed)

    gpu = planned_gpu(run.gpu, run.gpu_memory, run.device_tflops, run.device_bandwidth, run.mfu)
    if run.training.micro_batch_size == AUTO:
        training = with_largest_micro_batch_size(run.model, run.adapter, training, workload, gpu)
    report = plan_training(
        run.model,
        run.adapter,
        training,
        workload,
        gpu,
        include_released_models=run.released,
        evaluation=run.evaluation,
    )
    calibration = None
    if run.calibrate:
        calibration = calibrate_memory(
            run.model, run.adapter, with_default_micro_batch_size(run.training), workload
        )

    folder = create_run_folder(run.output_dir, to_yaml(run))
    write_plan_report(folder, report, calibration)


if __name__ == "__main__":
    plan()
