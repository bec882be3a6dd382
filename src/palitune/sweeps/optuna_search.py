"""A sweep whose values Optuna chooses from the results of earlier jobs."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.config.overrides import parse_search_space, quote_value
from palitune.config.recipes import Evaluate, Finetune, RecipeConfig
from palitune.config.search_space import Domain, OptunaSearch
from palitune.config.to_yaml import to_yaml
from palitune.errors import FAILED, ConfigError, DataError, print_error, unknown_choice
from palitune.metrics import higher_is_better
from palitune.sweeps.optuna_study import ERROR_ATTR, OptunaStudy
from palitune.sweeps.search_page import PAGE_FILE, TrialResult, best_trial, write_search_page
from palitune.sweeps.sweep import (
    Job,
    SweepRequest,
    bound_overrides,
    print_summary,
    write_sweep_file,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST_EXPERIMENT = "best"
"""Name of the experiment file with the best values."""
_SEARCH_KEYS = ("search=", "search.", "search_space")


class OptunaSweep:
    """Jobs of a search, including the trials of an earlier call."""

    def __init__(
        self,
        request: SweepRequest,
        overrides: Sequence[str],
        domains: Mapping[str, Domain],
        first_run: RecipeConfig,
    ) -> None:
        """Prepare a search. Raises ConfigError if the configuration of a trial is invalid.

        Args:
            request: Command line of the sweep.
            overrides: Overrides that set one value.
            domains: Domains on the command line, by setting.
            first_run: Run with the first value of each domain.
        """
        if not isinstance(first_run, Finetune | Evaluate) or not isinstance(
            first_run.search, OptunaSearch
        ):
            raise ConfigError(f"search=optuna is not supported by {request.schema.name}")
        self.request, self.settings = request, first_run.search
        self.num_jobs, self.folder = first_run.search.n_trials, Path(first_run.output_dir)
        self.overrides = [text for text in overrides if not text.startswith(_SEARCH_KEYS)]
        self.space = _search_space(self.settings, self.overrides, domains)
        self.trial_overrides = _trial_overrides(first_run)
        for values in bound_overrides(self.space):
            self._compose(values)
        self._trial_numbers: dict[Path, int] = {}

    def jobs(self) -> Iterator[Job]:
        """Yield the unfinished trials of an earlier call, then new ones."""
        for number in self._study.unfinished():
            yield self._make_job(self._study.suggest(number))
        while len(self._study.trials()) < self.num_jobs:
            yield self._make_job(self._study.suggest_next())

    def on_job_update(self, job: Job) -> None:
        number = self._trial_numbers[job.folder]
        if job.state == "done":
            value = self._read_metric(job.folder)
            if math.isnan(value):
                job.state, job.error = "failed", f"{self.settings.metric} is not a number"
            else:
                self._study.record_value(number, value)
        if job.state == "failed":
            self._study.record_failure(number, job.error)
        self._write_progress({})

    def finish(self) -> int:
        exit_code = print_summary(self.folder, [self._make_job(t) for t in self._study.trials()])
        self._write_progress(self._study.importances())
        if (best := best_trial(self._trial_results(), self.settings.metric)) is None:
            print_error(f"no trial has a value of {self.settings.metric}")
            return FAILED
        self._write_best(best)
        config_dir = shlex.quote(str(self.folder / "conf"))
        command = f"palitune {self.request.schema.name} --config-dir {config_dir}"
        print(f"best: {self.settings.metric} {best.value:.4g}, trial {best.number}")
        print(f"run it again: {command} experiment={BEST_EXPERIMENT}")
        print(f"search: {self.folder / PAGE_FILE}")
        return exit_code

    @cached_property
    def _study(self) -> OptunaStudy:
        identity = {
            "recipe": self.request.schema.name,
            "overrides": self.overrides,
            "space": {key: repr(domain) for key, domain in self.space.items()},
            "metric": self.settings.metric,
            "seed": self.settings.seed,
        }
        maximize = higher_is_better(self.settings.metric)
        return OptunaStudy(self.folder, self.space, self.settings.seed, maximize, identity)

    def _compose(self, values: Sequence[str]) -> RecipeConfig:
        return self.request.compose([*self.overrides, *values, "search=none"])

    def _make_job(self, trial: "FrozenTrial") -> Job:
        values = [f"{key}={_format_value(value)}" for key, value in trial.params.items()]
        # The name must not depend on the number of trials, which a later call may raise.
        folder = self.folder / str(trial.number)
        self._trial_numbers[folder] = trial.number
        output_dir = f"output_dir={quote_value(str(folder))}"
        state = {"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, "interrupted")
        return Job(
            overrides=[*self.overrides, *values, *self.trial_overrides, output_dir],
            label=",".join(values), folder=folder,
            state=state, error=trial.user_attrs.get(ERROR_ATTR, ""),
        )  # fmt: skip

    def _read_metric(self, folder: Path) -> float:
        """Return the metric of a trial, NaN for null. Raises DataError if it was not measured."""
        file, metric = folder / "metrics.json", self.settings.metric
        if not file.is_file():
            raise DataError(f"{file} does not exist: {self.request.schema.name} wrote no metrics")
        metrics = json.loads(file.read_text(encoding="utf-8"))["after"]
        if metric not in metrics:
            raise DataError(f"search.metric: {unknown_choice('metric', metric, metrics)}")
        value = metrics[metric]
        return float("nan") if value is None else float(value)

    def _trial_results(self) -> list[TrialResult]:
        return [
            TrialResult(
                number=trial.number, folder=job.folder.name, state=job.state, error=job.error,
                value=trial.value, params={key: trial.params.get(key) for key in self.space},
            )
            for trial in self._study.trials()
            for job in [self._make_job(trial)]
        ]  # fmt: skip

    def _write_progress(self, importances: Mapping[str, float]) -> None:
        """Write `sweep.json` and the page of the search."""
        jobs = [self._make_job(trial) for trial in self._study.trials()]
        write_sweep_file(self.folder, self.request.schema.name, jobs)
        metric, results = self.settings.metric, self._trial_results()
        write_search_page(self.folder, metric, self.space, results, importances, self.num_jobs)

    def _write_best(self, best: TrialResult) -> None:
        """Write the values of a trial as an experiment, without the overrides of all trials."""
        run = self._compose([f"{key}={_format_value(value)}" for key, value in best.params.items()])
        header = (
            f"# @package _global_\n# {self.settings.metric} {best.value:.4g}: "
            f"the best of {len(self._study.trials())} trials, number {best.number}.\n"
        )
        file = self.folder / "conf" / "experiment" / f"{BEST_EXPERIMENT}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(header + to_yaml(run).split("\n", 2)[2], encoding="utf-8")


def _search_space(
    settings: OptunaSearch, overrides: Sequence[str], domains: Mapping[str, Domain]
) -> dict[str, Domain]:
    """Return the configured domains without fixed keys, plus those of the command line."""
    fixed = {text.partition("=")[0] for text in overrides}
    configured = [f"{key}={text}" for key, text in settings.space.items() if key not in fixed]
    single, configured_domains = parse_search_space(configured)
    if single:
        raise ConfigError(
            f"search.space: {single[0]} is a single value; write choice(...) or interval(...)"
        )
    space = {**configured_domains, **domains}
    if not space:
        raise ConfigError("search.space is empty; choose one, e.g. search_space=lora")
    return space


def _trial_overrides(run: Finetune | Evaluate) -> list[str]:
    """Return the overrides of all trials, which evaluate on the validation split."""
    if isinstance(run, Evaluate):
        return ["search=none"]
    if run.training.validation_split is None:
        raise ConfigError(
            "search=optuna requires training.validation_split, so that the test split has no "
            "influence on the choice of values"
        )
    split = f"evaluation.split={quote_value(run.training.validation_split)}"
    return ["search=none", split, "evaluate_before=false", "training.resume=auto"]


def _format_value(value: Any) -> str:
    """Write a value as in an override; strings are already written this way."""
    return value if isinstance(value, str) else repr(value)
