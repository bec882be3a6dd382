"""An experiment, or an earlier run, without what it says of options that were replaced.

What it sets is meant for the options that it chooses. Where the command line chooses another one,
only what both have under one name and of one type stays: with `adapter=qlora` the rank of a LoRA,
with `adapter=full` no more than where the adapter lies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from palitune.cli.help import options
from palitune.config.config_store import register_experiment
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS
from palitune.errors import ConfigError

EARLIER_RUN = "earlier_run"
"""The option of `experiment` that the configuration of an earlier run is composed as."""
FILTERED = "rest_of"
"""The folder of `experiment` in which what is left of an experiment is an option."""

GroupChoices = Mapping[str, tuple[str, str | None]]
"""Group and option, by the place in a run that they are composed at."""


@dataclass(frozen=True)
class ExperimentMerge:
    """What is chosen besides an experiment."""

    cli_choices: GroupChoices
    """By the command line."""
    default_choices: GroupChoices
    """By the root of the recipe."""
    config_dir: str | None
    dropped_settings: list[str] = field(default_factory=list)
    """What was dropped so far: the settings that an option does not know, in words."""

    def filter_experiment(self, name: str) -> str:
        """Return the option of `experiment` that holds what is left of one."""
        if not self.cli_choices:
            return name
        return self._filter(
            name, {**self.default_choices, **self._choices_of(self._load_experiment(name))}
        )

    def filter_earlier_run(self, recipe_name: str, folder: str) -> str:
        """Return the option of `experiment` that holds the configuration of an earlier run.

        What only other recipes can be told is left out.
        """
        file = Path(folder) / "config.yaml"
        if not file.is_file():
            raise ConfigError(
                f"--run {folder}: there is no {file}; name the folder of an earlier run"
            )
        earlier = _load_yaml(file)
        every = {known.name for schema in RECIPE_CONFIGS.values() for known in fields(schema)}
        for name in every - {known.name for known in fields(RECIPE_CONFIGS[recipe_name])}:
            earlier.pop(name, None)
        self._drop_replaced(earlier, {**self.default_choices, **self._choices_of(earlier)})
        register_experiment(EARLIER_RUN, earlier)
        return EARLIER_RUN

    def _filter(self, name: str, choices: GroupChoices) -> str:
        """Offer what is left of an experiment and of those that it builds on; return its name."""
        experiment = self._load_experiment(name)
        changed = self._drop_replaced(experiment, choices)
        for index, base in self._base_experiments(experiment):
            if (rest := self._filter(base, choices)) != base:
                experiment.defaults[index] = f"/experiment/{rest}"
                changed = True
        if not changed:
            return name
        register_experiment(f"{FILTERED}/{name}", experiment)
        return f"{FILTERED}/{name}"

    def _drop_replaced(self, experiment: DictConfig, choices: GroupChoices) -> bool:
        """Drop what is said of options that others are told instead of; tell whether any was."""
        changed = False
        for place, (group, option) in self.cli_choices.items():
            if place in experiment and experiment[place] is None:
                del experiment[place]
                changed = True
            said = OmegaConf.select(experiment, place)
            if not isinstance(said, DictConfig):
                continue
            if option is None:
                OmegaConf.update(experiment, place, None)
                _drop_choices(experiment, place)
                changed = True
                continue
            unknown = self._unshared_fields(group, choices.get(place, ("", ""))[1], option)
            if dropped := [str(name) for name in said if name in unknown]:
                self.dropped_settings.append(f"{place}={option} has no {', '.join(dropped)}")
                changed = True
            for name in dropped:
                del said[name]
                _drop_choices(experiment, f"{place}.{name}")
        return changed

    def _unshared_fields(self, group: str, old: str | None, new: str) -> set[object]:
        """Return the settings that one option of a group has and another has not."""
        before, after = self._schema(group, old), self._schema(group, new)
        if before is None or after is None:
            return set()
        shared = {(known.name, known.type) for known in fields(after)}
        return {known.name for known in fields(before) if (known.name, known.type) not in shared}

    def _choices_of(self, experiment: DictConfig) -> GroupChoices:
        """Return what an experiment chooses, and those that it builds on."""
        found: dict[str, tuple[str, str | None]] = {}
        for _, base in self._base_experiments(experiment):
            found |= self._choices_of(self._load_experiment(base))
        for entry in _defaults_list(experiment):
            for key, option in entry.items() if isinstance(entry, dict) else ():
                group, _, place = key.removeprefix("override ").removeprefix("/").partition("@")
                found[place or group] = (group, option)
        return found

    def _base_experiments(self, experiment: DictConfig) -> list[tuple[int, str]]:
        """Return the experiments that one builds on, with their index in its defaults list."""
        known = options("experiment", self.config_dir)
        entries = [(n, e) for n, e in enumerate(_defaults_list(experiment)) if isinstance(e, str)]
        named = [(index, entry.removeprefix("/experiment/")) for index, entry in entries]
        return [(index, name) for index, name in named if name in known]

    def _load_experiment(self, experiment: str) -> DictConfig:
        return _load_yaml(options("experiment", self.config_dir)[experiment])

    def _schema(self, group: str, option: str | None) -> type | None:
        """Return the type that an option composes; an option of one's own builds on one."""
        if option in GROUPS[group]:
            return GROUPS[group][str(option)]
        file = options(group, self.config_dir).get(str(option))
        entries = _defaults_list(_load_yaml(file)) if file else []
        bases = (e.partition("@")[0].rpartition("/")[2] for e in entries if isinstance(e, str))
        return next(filter(None, (self._schema(group, base) for base in bases)), None)


def _load_yaml(file: Path) -> DictConfig:
    loaded = OmegaConf.load(file)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create()


def _defaults_list(experiment: DictConfig) -> list[Any]:
    listed = experiment.get("defaults")
    return cast(list[Any], OmegaConf.to_container(listed)) if isinstance(listed, ListConfig) else []


def _drop_choices(experiment: DictConfig, package: str) -> None:
    """Drop what is chosen below a place that is no longer there."""
    experiment.defaults = [
        entry
        for entry in _defaults_list(experiment)
        if not isinstance(entry, dict) or not any(f"@{package}." in key for key in entry)
    ]
