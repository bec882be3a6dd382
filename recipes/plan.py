"""Predict what a training takes: memory, time, disk; which choices fit. Trains nothing."""

from palitune import planning, report
from palitune.config import Plan, recipe, to_yaml


@recipe(Plan)
def plan(run: Plan) -> None:
    told = planning.Told(run.prefix_tokens, run.suffix_tokens, run.examples)
    workload = planning.look(run.data, run.task, run.model, run.training, told)

    gpu = planning.Gpu(run.gpu_memory, run.device_tflops, run.mfu, run.device_bandwidth)
    planned = planning.predict(
        run.model, run.adapter, run.training, workload, gpu, released=run.released
    )
    calibrated = None
    if run.calibrate:
        calibrated = planning.calibrate(run.model, run.adapter, run.training, workload)

    folder = report.open_run(run.output_dir, to_yaml(run))
    report.show_plan(folder, planned, calibrated)


if __name__ == "__main__":
    plan()
