"""Serve the base model and adapters over HTTP, with a playground."""

from palitune.cli.recipe import recipe
from palitune.config.recipes import Serve


@recipe(Serve)
def serve(run: Serve) -> None:
    from palitune.report.run_writer import print_checks
    from palitune.serving.run import load_engine, serve_http, startup_checks

    engine = load_engine(run.model, run.adapter, run.adapter_folders(), run.evaluation)

    tasks = run.component_tasks()
    checks = startup_checks(
        engine, tasks, run.evaluation, run.adapter, run.num_replayed, run.min_score
    )
    print_checks(checks)

    serve_http(engine, tasks, run, run.evaluation)


if __name__ == "__main__":
    serve()
