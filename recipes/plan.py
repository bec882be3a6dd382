"""Predict memory, time and disk space of a training run, without training."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Plan
from palitune.config.to_yaml import to_yaml


@recipe(Plan)
def plan(run: Plan) -> None:
    from palitune.planning.flops import Gpu
    from palitune.planning.plan import calibrate_memory, plan_training
    from palitune.planning.workload import AssumedLengths, measure_workload
    from palitune.report.pages.plan import write_plan_report
    from palitune.report.run_writer import create_run_folder

    assumed = AssumedLengths(run.prefix_tokens, run.suffix_tokens, run.examples)
    workload = measure_workload(run.data, run.task, run.model, run.training, assumed)

    gpu = Gpu(run.gpu_memory, run.device_tflops, run.mfu, run.device_bandwidth)
    report = plan_training(
        run.model, run.adapter, run.training, workload, gpu, include_released_models=run.released
    )
    calibration = None
    if run.calibrate:
        calibration = calibrate_memory(run.model, run.adapter, run.training, workload)

    folder = create_run_folder(run.output_dir, to_yaml(run))
    write_plan_report(folder, report, calibration)


if __name__ == "__main__":
    plan()
