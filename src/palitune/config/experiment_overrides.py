"""Experiments and earlier runs, without their settings for options that the command line replaces.

The settings of an experiment are meant for the options that it chooses. If the command line chooses
another option of a group, only settings with the same name and type remain: `adapter=qlora` keeps
the rank of a LoRA experiment, `adapter=full` only the path.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from palitune.config.catalog import options, resolve_option
from palitune.config.config_store import (
    defaults_list,
    load_stored_config,
    load_yaml,
    register_experiment,
)
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS, RecipeConfig
from palitune.errors import ConfigError

EARLIER_RUN = "earlier_run"
"""Option of `experiment` that holds the configuration of an earlier run."""
FILTERED = "filtered"
"""Folder of `experiment` for filtered experiments."""

GroupChoices = Mapping[str, tuple[str, str | None]]
"""Group and option by the key that they are composed at."""


@dataclass(frozen=True)
class ExperimentMerge:
    """Filters an experiment by the options chosen on the command line."""

    cli_choices: GroupChoices
    """Choices of the command line."""
    default_choices: GroupChoices
    """Choices in the recipe's YAML."""
    config_dir: str | None
    dropped_settings: list[str] = field(default_factory=list)
    """A message for each option that lacks settings of the experiment."""

    def filter_experiment(self, name: str) -> str:
        """Register the filtered experiment; return its name, or the same if nothing changed."""
        return self._filter(
            name, {**self.default_choices, **self._choices_of(self._load_experiment(name), name)}
        )

    def filter_earlier_run(self, schema: type[RecipeConfig], run_folder: str) -> str:
        """Register the filtered configuration of an earlier run and return its name.

        Settings that exist only in other recipes are dropped.
        """
        file = Path(run_folder) / "config.yaml"
        if not file.is_file():
            raise ConfigError(f"--run {run_folder}: {file} does not exist; use a run folder")
        return self.filter_settings(schema, load_stored_config(file))

    def filter_settings(self, schema: type[RecipeConfig], earlier: DictConfig) -> str:
        """Register filtered settings of an earlier run and return their name."""
        all_names = {f.name for config in RECIPE_CONFIGS.values() for f in fields(config)}
        for name in all_names - {f.name for f in fields(schema)}:
            earlier.pop(name, None)
        choices = {**self.default_choices, **self._choices_of(earlier, EARLIER_RUN)}
        self._drop_replaced(earlier, choices)
        register_experiment(EARLIER_RUN, earlier)
        return EARLIER_RUN

    def _filter(self, name: str, choices: GroupChoices) -> str:
        experiment = self._load_experiment(name)
        changed = self._drop_replaced(experiment, choices)
        for index, base in self._base_experiments(experiment, name):
            filtered = self._filter(base, choices)
            entry = experiment.defaults[index]
            if filtered != base or entry not in (f"/experiment/{base}", _relative(base, name)):
                experiment.defaults[index] = f"/experiment/{filtered}"
                changed = True
        if not changed:
            return name
        register_experiment(f"{FILTERED}/{name}", experiment)
        return f"{FILTERED}/{name}"

    def _drop_replaced(self, experiment: DictConfig, choices: GroupChoices) -> bool:
        """Drop the settings of replaced options. Return whether anything changed."""
        changed = False
        for key, (group, option) in self.cli_choices.items():
            if key in experiment and experiment[key] is None:
                del experiment[key]
                changed = True
            settings = OmegaConf.select(experiment, key)
            if not isinstance(settings, DictConfig):
                continue
            if option is None:
                OmegaConf.update(experiment, key, None)
                _drop_choices(experiment, key)
                changed = True
                continue
            unshared = self._unshared_fields(group, choices.get(key, ("", ""))[1], option)
            if dropped := [str(name) for name in settings if name in unshared]:
                self.dropped_settings.append(f"{key}={option} has no {', '.join(dropped)}")
                changed = True
            for name in dropped:
                del settings[name]
                _drop_choices(experiment, f"{key}.{name}")
        return changed

    def _unshared_fields(self, group: str, old: str | None, new: str) -> set[object]:
        """Return the fields of one option that another option of its group does not have."""
        old_schema, new_schema = self._schema(group, old), self._schema(group, new)
        if old_schema is None or new_schema is None:
            return set()
        shared = {(f.name, f.type) for f in fields(new_schema)}
        unshared: set[object] = {
            f.name for f in fields(old_schema) if (f.name, f.type) not in shared
        }
        if getattr(old_schema, "value_is_text", None) != getattr(new_schema, "value_is_text", None):
            unshared.add("metrics")  # metrics of texts do not score objects, nor the reverse
        return unshared

    def _choices_of(self, experiment: DictConfig, name: str) -> GroupChoices:
        """Return the choices of an experiment and of its base experiments."""
        choices: dict[str, tuple[str, str | None]] = {}
        for _, base in self._base_experiments(experiment, name):
            choices |= self._choices_of(self._load_experiment(base), base)
        for entry in defaults_list(experiment):
            for key, option in entry.items() if isinstance(entry, dict) else ():
                group, _, package = key.removeprefix("override ").removeprefix("/").partition("@")
                choices[package or group] = (group, option)
        return choices

    def _base_experiments(self, experiment: DictConfig, name: str) -> list[tuple[int, str]]:
        """Return the experiments that one builds on, with their index in its defaults list.

        `quickstart` in a defaults list is an experiment in the same folder, or one whose name is
        unique among all folders.
        """
        files = options("experiment", self.config_dir)
        bases = []
        for index, entry in enumerate(defaults_list(experiment)):
            if not isinstance(entry, str) or entry == "_self_" or entry.startswith("/schema/"):
                continue
            absolute = entry.removeprefix("/experiment/")
            sibling = _sibling(absolute, name)
            if entry == absolute and sibling in files:
                bases.append((index, sibling))
            elif any(absolute in (file, file.rpartition("/")[2]) for file in files):
                bases.append((index, resolve_option("experiment", absolute, self.config_dir)))
        return bases

    def _load_experiment(self, experiment: str) -> DictConfig:
        return load_yaml(options("experiment", self.config_dir)[experiment])

    def _schema(self, group: str, option: str | None) -> type | None:
        """Return the type of an option; a user's option has the type of the option it builds on."""
        if option in GROUPS[group]:
            return GROUPS[group][str(option)]
        file = options(group, self.config_dir).get(str(option))
        entries = defaults_list(load_yaml(file)) if file else []
        bases = (e.partition("@")[0].rpartition("/")[2] for e in entries if isinstance(e, str))
        return next(filter(None, (self._schema(group, base) for base in bases)), None)


def _sibling(entry: str, experiment: str) -> str:
    """Return the full name of an entry that is relative to the folder of an experiment."""
    folder = experiment.rpartition("/")[0]
    return f"{folder}/{entry}" if folder else entry


def _relative(base: str, experiment: str) -> str | None:
    """Return the defaults entry that Hydra resolves to a base experiment in the same folder."""
    folder = experiment.rpartition("/")[0]
    return base.removeprefix(f"{folder}/") if base.startswith(f"{folder}/") or not folder else None


def _drop_choices(experiment: DictConfig, package: str) -> None:
    """Drop the choices in the defaults list at or below a key that was removed."""
    experiment.defaults = [
        entry
        for entry in defaults_list(experiment)
        if not isinstance(entry, dict) or not any(f"@{package}." in f"{key}." for key in entry)
    ]
