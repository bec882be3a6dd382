"""Trials of a hyper-parameter search, stored by Optuna in a SQLite file.

The sampler of each trial is seeded with the search's seed and the trial's number, so that an
interrupted search continues as if it had not been interrupted.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.config.search_space import Categorical, Domain
from palitune.errors import DataError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

STUDY_FILE = "search.db"
ERROR_ATTR = "error"
"""User attribute of a failed trial: its error message."""
_MIN_TRIALS_FOR_IMPORTANCE = 4
"""Number of completed trials from which parameter importances are reported."""


class OptunaStudy:
    """An Optuna study and its search space."""

    def __init__(
        self,
        folder: Path,
        space: Mapping[str, Domain],
        seed: int,
        maximize: bool,
        identity: Mapping[str, Any],
    ) -> None:
        """Open or create the study in a folder.

        Args:
            folder: Folder of the sweep.
            space: Domain of each setting.
            seed: Seed of the sampler.
            maximize: Whether higher values of the metric are better.
            identity: What must be the same if the folder already holds a study.

        Raises:
            DataError: Optuna is not installed, or the folder holds another study.
        """
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise DataError("search=optuna needs Optuna: pip install 'palitune[search]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self._space, self._seed = space, seed
        self._study = optuna.create_study(
            storage=f"sqlite:///{folder.absolute() / STUDY_FILE}", study_name="search",
            direction="maximize" if maximize else "minimize", load_if_exists=True,
        )  # fmt: skip
        for name, value in identity.items():
            earlier = self._study.user_attrs.get(name, value)
            if earlier != value:
                raise DataError(
                    f"{folder} holds a search with other {name} ({earlier}); use the same command, "
                    "or another output_dir"
                )
            self._study.set_user_attr(name, value)

    def trials(self) -> "list[FrozenTrial]":
        """Return all trials."""
        trials: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def unfinished(self) -> list[int]:
        """Return the numbers of the trials that an earlier call started and did not finish."""
        return [trial.number for trial in self.trials() if trial.state.name == "RUNNING"]

    def suggest_next(self) -> "FrozenTrial":
        """Add a trial and choose its values."""
        self._study.ask()
        return self.suggest(len(self.trials()) - 1)

    def suggest(self, number: int) -> "FrozenTrial":
        """Choose the values of a trial that an earlier call has not chosen."""
        from optuna.samplers import TPESampler

        seed = self._seed * 1_000_003 + number
        self._study.sampler = TPESampler(seed=seed, constant_liar=True)
        trial = self._open_trial(number)
        for key, domain in self._space.items():
            if isinstance(domain, Categorical):
                trial.suggest_categorical(key, domain.values)
            elif domain.is_integer:
                trial.suggest_int(key, int(domain.low), int(domain.high), log=domain.log)
            else:
                trial.suggest_float(key, domain.low, domain.high, log=domain.log)
        return self.trials()[number]

    def record_value(self, number: int, value: float) -> None:
        """Complete a trial with the value of the metric."""
        self._study.tell(number, value)

    def record_failure(self, number: int, error: str) -> None:
        """End a trial with an error message."""
        from optuna.trial import TrialState

        self._open_trial(number).set_user_attr(ERROR_ATTR, error)
        self._study.tell(number, state=TrialState.FAIL)

    def importances(self) -> dict[str, float]:
        """Return the importance of each setting (the sum is 1); empty with too few trials."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        completed = [trial for trial in self.trials() if trial.state.name == "COMPLETE"]
        if len(completed) < _MIN_TRIALS_FOR_IMPORTANCE:
            return {}
        evaluator = PedAnovaImportanceEvaluator()
        importances: dict[str, float] = get_param_importances(self._study, evaluator=evaluator)
        return importances

    def _open_trial(self, number: int) -> "Trial":
        from optuna.trial import Trial

        return Trial(self._study, self.trials()[number]._trial_id)
