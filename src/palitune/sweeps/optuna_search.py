"""A sweep whose values Optuna chooses. What is known lies in `search.db` in the sweep's folder.

Chance is drawn anew for every trial, from the search's seed and the trial's number: a search that
was cut off goes on as if it had not been.
"""

import json
import math
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune import config
from palitune.cli.help import CliArguments
from palitune.config.recipes import Evaluate, Finetune, RecipeConfig
from palitune.config.search_space import Categorical, Domain, OptunaSearch
from palitune.errors import FAILED, ConfigError, DataError, print_error, unknown_choice
from palitune.metrics import higher_is_better
from palitune.sweeps import search_page, sweep
from palitune.sweeps.sweep import Job

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

STUDY_FILE = "search.db"
BEST_EXPERIMENT = "best"
"""The experiment that the best settings are written as."""
_ERROR_ATTR = "error"
_MIN_TRIALS_FOR_IMPORTANCE = 4
"""Trials from which on it is told how much a setting matters."""


class OptunaSweep:
    """The trials of a search, those of an earlier call among them."""

    def __init__(
        self,
        recipe_name: str,
        cli_args: CliArguments,
        overrides: Sequence[str],
        domains: Mapping[str, Domain],
        first_run: RecipeConfig,
    ) -> None:
        if not isinstance(first_run, Finetune | Evaluate) or not isinstance(
            first_run.search, OptunaSearch
        ):
            raise ConfigError(f"{recipe_name} measures nothing that could be searched the best of")
        self.settings, self.recipe_name, self.cli_args = first_run.search, recipe_name, cli_args
        self.num_jobs, self.folder = first_run.search.n_trials, Path(first_run.output_dir)
        self.overrides = [text for text in overrides if not text.startswith(("search=", "search."))]
        self.space = _search_space(self.settings, self.overrides, domains)
        self.trial_overrides = _trial_overrides(first_run)
        for values in sweep.bound_overrides(self.space):
            self._compose(values)
        self._study: Any = None
        self._trial_numbers: dict[Path, int] = {}

    def jobs(self) -> Iterator[Job]:
        """Yield the trials that an earlier call left unfinished, then new ones."""
        from optuna.trial import TrialState

        self._study = self._open_study()
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            yield self._suggest(trial.number)
        while (number := len(self._all_trials())) < self.num_jobs:
            self._study.ask()
            yield self._suggest(number)

    def on_job_update(self, job: Job) -> None:
        from optuna.trial import TrialState

        number = self._trial_numbers[job.folder]
        if job.state == "done":
            value = self._read_metric(job.folder)
            if math.isnan(value):
                job.state, job.error = "failed", f"{self.settings.metric} is not a number"
            else:
                self._study.tell(number, value)
        if job.state == "failed":
            self._open_trial(number).set_user_attr(_ERROR_ATTR, job.error)
            self._study.tell(number, state=TrialState.FAIL)
        self._write_progress({})

    def finish(self) -> int:
        code = sweep.print_summary(
            self.folder, [self._make_job(trial) for trial in self._all_trials()]
        )
        self._write_progress(self._parameter_importances())
        if (best := search_page.best_trial(self._trial_results(), self.settings.metric)) is None:
            print_error("no trial gave a number")
            return FAILED
        self._write_best(best)
        shown = shlex.quote(str(self.folder / "conf"))
        print(f"best: {self.settings.metric} {best.value:.4g}, of trial {best.number}")
        print(
            f"again: palitune {self.recipe_name} --config-dir {shown} experiment={BEST_EXPERIMENT}"
        )
        print(f"search: {self.folder / search_page.PAGE_FILE}")
        return code

    def _compose(self, values: Sequence[str]) -> RecipeConfig:
        return sweep.compose_job(
            self.recipe_name, self.cli_args, [*self.overrides, *values, "search=none"]
        )

    def _open_study(self) -> Any:
        """Open the study. Raises DataError where the folder holds another one."""
        try:
            import optuna
        except ModuleNotFoundError as missing:
            raise DataError("search needs Optuna: pip install 'palitune[search]'") from missing
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        highest = higher_is_better(self.settings.metric)
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder.absolute() / STUDY_FILE}", study_name="search",
            direction="maximize" if highest else "minimize", load_if_exists=True,
        )  # fmt: skip
        told = {
            "recipe": self.recipe_name,
            "overrides": self.overrides,
            "space": {key: repr(domain) for key, domain in self.space.items()},
            "metric": self.settings.metric,
            "seed": self.settings.seed,
        }
        for name, value in told.items():
            known = study.user_attrs.get(name, value)
            if known != value:
                raise DataError(
                    f"{self.folder} holds a search with another {name} ({known}); go on with that, "
                    "or choose another output_dir"
                )
            study.set_user_attr(name, value)
        return study

    def _suggest(self, number: int) -> Job:
        """Choose the values of a trial, as far as an earlier call had not."""
        from optuna.samplers import TPESampler

        seed = self.settings.seed * 1_000_003 + number
        self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        trial = self._open_trial(number)
        for key, domain in self.space.items():
            if isinstance(domain, Categorical):
                trial.suggest_categorical(key, domain.values)
            elif domain.is_integer:
                trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log)
            else:
                trial.suggest_float(key, domain.low, domain.high, log=domain.log)
        return self._make_job(self._all_trials()[number])

    def _open_trial(self, number: int) -> "Trial":
        from optuna.trial import Trial

        return Trial(self._study, self._all_trials()[number]._trial_id)

    def _make_job(self, trial: "FrozenTrial") -> Job:
        values = [f"{key}={_format_value(value)}" for key, value in trial.params.items()]
        folder = self.folder / str(trial.number)  # whatever number of trials is asked for
        self._trial_numbers[folder] = trial.number
        ours = [*self.trial_overrides, f"output_dir={config.quote_value(str(folder))}"]
        state = {"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, "interrupted")
        return Job(
            overrides=[*self.overrides, *values, *ours], label=",".join(values), folder=folder,
            state=state, error=trial.user_attrs.get(_ERROR_ATTR, ""),
        )  # fmt: skip

    def _read_metric(self, folder: Path) -> float:
        """Read what a trial is judged by. Raises DataError where it measured no such number."""
        file, metric = folder / "metrics.json", self.settings.metric
        if not file.is_file():
            raise DataError(f"{file} is not there: {self.recipe_name} judged nothing")
        found = json.loads(file.read_text(encoding="utf-8"))["after"]
        if metric not in found:
            raise DataError(f"search.metric: {unknown_choice('number', metric, found)}")
        value = found[metric]
        return float("nan") if value is None else float(value)

    def _all_trials(self) -> "list[FrozenTrial]":
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def _trial_results(self) -> list[search_page.TrialResult]:
        return [
            search_page.TrialResult(
                number=trial.number, folder=job.folder.name, state=job.state, error=job.error,
                value=trial.value, params={key: trial.params.get(key) for key in self.space},
            )
            for trial in self._all_trials()
            for job in [self._make_job(trial)]
        ]  # fmt: skip

    def _write_progress(self, importances: Mapping[str, float]) -> None:
        """Write what is known so far: `sweep.json` and the page."""
        sweep.write_sweep_file(
            self.folder, self.recipe_name, [self._make_job(trial) for trial in self._all_trials()]
        )
        metric, tried = self.settings.metric, self._trial_results()
        search_page.write_search_page(
            self.folder, metric, self.space, tried, importances, self.num_jobs
        )

    def _write_best(self, best: search_page.TrialResult) -> None:
        """Write the settings of a trial as an experiment, without what only trials were told."""
        run = self._compose([f"{key}={_format_value(value)}" for key, value in best.params.items()])
        header = (
            f"# @package _global_\n# {self.settings.metric} {best.value:.4g}: "
            f"the best of {len(self._all_trials())} trials, number {best.number}.\n"
        )
        file = self.folder / "conf" / "experiment" / f"{BEST_EXPERIMENT}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(header + config.to_yaml(run).split("\n", 2)[2], encoding="utf-8")

    def _parameter_importances(self) -> dict[str, float]:
        """Say how much each setting mattered, as shares of 1, where there are enough trials."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        done = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if len(done) < _MIN_TRIALS_FOR_IMPORTANCE:
            return {}
        found: dict[str, float] = get_param_importances(
            self._study, evaluator=PedAnovaImportanceEvaluator()
        )
        return found


def _search_space(
    settings: OptunaSearch, overrides: Sequence[str], domains: Mapping[str, Domain]
) -> dict[str, Domain]:
    """What is searched: the space of the search but for what is told, and what is told to be."""
    fixed = {text.partition("=")[0] for text in overrides}
    written = [f"{key}={text}" for key, text in settings.space.items() if key not in fixed]
    single, space = config.parse_search_space(written)
    if single:
        raise ConfigError(
            f"search.space: {single[0]} gives one value; write choice(...) or interval(...)"
        )
    if not (found := {**space, **domains}):
        raise ConfigError("there is nothing to search: search.space is empty")
    return found


def _trial_overrides(run: Finetune | Evaluate) -> list[str]:
    """What is told to trials besides: above all, to be judged on what the test is not."""
    if isinstance(run, Evaluate):
        return ["search=none"]
    if run.training.validation_split is None:
        raise ConfigError(
            "a search needs training.validation_split: trials are judged on it, so that nothing is "
            "chosen by the test"
        )
    judged = f"evaluation.split={config.quote_value(run.training.validation_split)}"
    return ["search=none", judged, "evaluate_before=false", "training.resume=auto"]


def _format_value(value: Any) -> str:
    """Write a value as an override does; a text is one already."""
    return value if isinstance(value, str) else repr(value)
