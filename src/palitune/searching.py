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

from palitune import config, sweeps
from palitune.commands import Request
from palitune.examples import DataError
from palitune.metrics import higher_is_better
from palitune.mistakes import FAILED, ConfigError, complain, not_among
from palitune.report import search_page
from palitune.runs import Command, Evaluate, Finetune
from palitune.search import Choice, Domain, Trials
from palitune.sweeps import Job

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

FILE = "search.db"
BEST = "best"
"""The experiment that the best settings are written as."""
_SAID = "said"
_FEWEST = 4
"""Trials from which on it is told how much a setting matters."""


class Searching:
    """The trials of a search, those of an earlier call among them."""

    def __init__(
        self,
        recipe_name: str,
        request: Request,
        told: Sequence[str],
        swept: Mapping[str, Domain],
        first: Command,
    ) -> None:
        if not isinstance(first, Finetune | Evaluate) or not isinstance(first.search, Trials):
            raise ConfigError(f"{recipe_name} measures nothing that could be searched the best of")
        self.settings, self.recipe_name, self.request = first.search, recipe_name, request
        self.count, self.folder = first.search.trials, Path(first.output_dir)
        self.told = [text for text in told if not text.startswith(("search=", "search."))]
        self.space = _space(self.settings, self.told, swept)
        self.only_trials = _only_trials(first)
        for values in sweeps.ends(self.space):
            self._compose(values)
        self._study: Any = None
        self._asked: dict[Path, int] = {}

    def jobs(self) -> Iterator[Job]:
        """Yield the trials that an earlier call left unfinished, then new ones."""
        from optuna.trial import TrialState

        self._study = self._opened()
        for trial in self._study.get_trials(states=[TrialState.RUNNING]):
            yield self._chosen(trial.number)
        while (number := len(self._trials())) < self.count:
            self._study.ask()
            yield self._chosen(number)

    def note(self, job: Job) -> None:
        from optuna.trial import TrialState

        number = self._asked[job.folder]
        if job.state == "done":
            value = self._number(job.folder)
            if math.isnan(value):
                job.state, job.said = "failed", f"{self.settings.metric} is not a number"
            else:
                self._study.tell(number, value)
        if job.state == "failed":
            self._trial(number).set_user_attr(_SAID, job.said)
            self._study.tell(number, state=TrialState.FAIL)
        self._write({})

    def conclude(self) -> int:
        code = sweeps.conclude(self.folder, [self._job(trial) for trial in self._trials()])
        self._write(self._importances())
        if (best := search_page.best(self._tried(), self.settings.metric)) is None:
            complain("no trial gave a number")
            return FAILED
        self._write_best(best)
        shown = shlex.quote(str(self.folder / "conf"))
        print(f"best: {self.settings.metric} {best.value:.4g}, of trial {best.number}")
        print(f"again: palitune {self.recipe_name} --config-dir {shown} experiment={BEST}")
        print(f"search: {self.folder / search_page.FILE}")
        return code

    def _compose(self, values: Sequence[str]) -> Command:
        return sweeps.compose(self.recipe_name, self.request, [*self.told, *values, "search=none"])

    def _opened(self) -> Any:
        """Open the study. Raises DataError where the folder holds another one."""
        try:
            import optuna
        except ModuleNotFoundError as missing:
            raise DataError("search needs Optuna: pip install 'palitune[search]'") from missing
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        highest = higher_is_better(self.settings.metric)
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder.absolute() / FILE}", study_name="search",
            direction="maximize" if highest else "minimize", load_if_exists=True,
        )  # fmt: skip
        told = {
            "recipe": self.recipe_name,
            "overrides": self.told,
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

    def _chosen(self, number: int) -> Job:
        """Choose the values of a trial, as far as an earlier call had not."""
        from optuna.samplers import TPESampler

        seed = self.settings.seed * 1_000_003 + number
        self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        trial = self._trial(number)
        for key, domain in self.space.items():
            if isinstance(domain, Choice):
                trial.suggest_categorical(key, domain.values)
            elif domain.whole:
                trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log)
            else:
                trial.suggest_float(key, domain.low, domain.high, log=domain.log)
        return self._job(self._trials()[number])

    def _trial(self, number: int) -> "Trial":
        from optuna.trial import Trial

        return Trial(self._study, self._trials()[number]._trial_id)

    def _job(self, trial: "FrozenTrial") -> Job:
        values = [f"{key}={_written(value)}" for key, value in trial.params.items()]
        folder = self.folder / str(trial.number)  # whatever number of trials is asked for
        self._asked[folder] = trial.number
        ours = [*self.only_trials, f"output_dir={config.quoted(str(folder))}"]
        state = {"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, "interrupted")
        return Job(
            overrides=[*self.told, *values, *ours], label=",".join(values), folder=folder,
            state=state, said=trial.user_attrs.get(_SAID, ""),
        )  # fmt: skip

    def _number(self, folder: Path) -> float:
        """Read what a trial is judged by. Raises DataError where it measured no such number."""
        file, metric = folder / "metrics.json", self.settings.metric
        if not file.is_file():
            raise DataError(f"{file} is not there: {self.recipe_name} judged nothing")
        found = json.loads(file.read_text(encoding="utf-8"))["after"]
        if metric not in found:
            raise DataError(f"search.metric: {not_among('number', metric, found)}")
        value = found[metric]
        return float("nan") if value is None else float(value)

    def _trials(self) -> "list[FrozenTrial]":
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def _tried(self) -> list[search_page.Tried]:
        return [
            search_page.Tried(
                number=trial.number, folder=job.folder.name, state=job.state, said=job.said,
                value=trial.value, settings={key: trial.params.get(key) for key in self.space},
            )
            for trial in self._trials()
            for job in [self._job(trial)]
        ]  # fmt: skip

    def _write(self, mattered: Mapping[str, float]) -> None:
        """Write what is known so far: `sweep.json` and the page."""
        sweeps.write(self.folder, self.recipe_name, [self._job(trial) for trial in self._trials()])
        metric, tried = self.settings.metric, self._tried()
        search_page.write(self.folder, metric, self.space, tried, mattered, self.count)

    def _write_best(self, best: search_page.Tried) -> None:
        """Write the settings of a trial as an experiment, without what only trials were told."""
        run = self._compose([f"{key}={_written(value)}" for key, value in best.settings.items()])
        header = (
            f"# @package _global_\n# {self.settings.metric} {best.value:.4g}: "
            f"the best of {len(self._trials())} trials, number {best.number}.\n"
        )
        file = self.folder / "conf" / "experiment" / f"{BEST}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(header + config.to_yaml(run).split("\n", 2)[2], encoding="utf-8")

    def _importances(self) -> dict[str, float]:
        """Say how much each setting mattered, as shares of 1, where there are enough trials."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        done = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if len(done) < _FEWEST:
            return {}
        found: dict[str, float] = get_param_importances(
            self._study, evaluator=PedAnovaImportanceEvaluator()
        )
        return found


def _space(settings: Trials, told: Sequence[str], swept: Mapping[str, Domain]) -> dict[str, Domain]:
    """What is searched: the space of the search but for what is told, and what is told to be."""
    fixed = {text.partition("=")[0] for text in told}
    written = [f"{key}={text}" for key, text in settings.space.items() if key not in fixed]
    single, space = config.domains(written)
    if single:
        raise ConfigError(
            f"search.space: {single[0]} gives one value; write choice(...) or interval(...)"
        )
    if not (found := {**space, **swept}):
        raise ConfigError("there is nothing to search: search.space is empty")
    return found


def _only_trials(run: Finetune | Evaluate) -> list[str]:
    """What is told to trials besides: above all, to be judged on what the test is not."""
    if isinstance(run, Evaluate):
        return ["search=none"]
    if run.training.validation_split is None:
        raise ConfigError(
            "a search needs training.validation_split: trials are judged on it, so that nothing is "
            "chosen by the test"
        )
    judged = f"evaluation.split={config.quoted(run.training.validation_split)}"
    return ["search=none", judged, "evaluate_before=false", "training.resume=auto"]


def _written(value: Any) -> str:
    """Write a value as an override does; a text is one already."""
    return value if isinstance(value, str) else repr(value)
