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

from palitune.commands import options
from palitune.config.schemas import offer
from palitune.mistakes import ConfigError
from palitune.runs import GROUPS, RUNS

EARLIER_RUN = "earlier_run"
"""The option of `experiment` that the configuration of an earlier run is composed as."""
REST = "rest_of"
"""The folder of `experiment` in which what is left of an experiment is an option."""

Choices = Mapping[str, tuple[str, str | None]]
"""Group and option, by the place in a run that they are composed at."""


@dataclass(frozen=True)
class Choosing:
    """What is chosen besides an experiment."""

    told: Choices
    """By the command line."""
    otherwise: Choices
    """By the root of the recipe."""
    config_dir: str | None
    left_out: list[str] = field(default_factory=list)
    """What was dropped so far: the settings that an option does not know, in words."""

    def experiment(self, name: str) -> str:
        """Return the option of `experiment` that holds what is left of one."""
        if not self.told:
            return name
        return self._rest(name, {**self.otherwise, **self._chosen_by(self._load(name))})

    def earlier_run(self, recipe_name: str, folder: str) -> str:
        """Return the option of `experiment` that holds the configuration of an earlier run.

        What only other recipes can be told is left out.
        """
        file = Path(folder) / "config.yaml"
        if not file.is_file():
            raise ConfigError(
                f"--run {folder}: there is no {file}; name the folder of an earlier run"
            )
        earlier = _mapping(file)
        every = {known.name for schema in RUNS.values() for known in fields(schema)}
        for name in every - {known.name for known in fields(RUNS[recipe_name])}:
            earlier.pop(name, None)
        self._drop(earlier, {**self.otherwise, **self._chosen_by(earlier)})
        offer(EARLIER_RUN, earlier)
        return EARLIER_RUN

    def _rest(self, name: str, chosen: Choices) -> str:
        """Offer what is left of an experiment and of those that it builds on; return its name."""
        experiment = self._load(name)
        changed = self._drop(experiment, chosen)
        for index, base in self._bases(experiment):
            if (rest := self._rest(base, chosen)) != base:
                experiment.defaults[index] = f"/experiment/{rest}"
                changed = True
        if not changed:
            return name
        offer(f"{REST}/{name}", experiment)
        return f"{REST}/{name}"

    def _drop(self, experiment: DictConfig, chosen: Choices) -> bool:
        """Drop what is said of options that others are told instead of; tell whether any was."""
        changed = False
        for place, (group, option) in self.told.items():
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
            unknown = self._not_shared(group, chosen.get(place, ("", ""))[1], option)
            if dropped := [str(name) for name in said if name in unknown]:
                self.left_out.append(f"{place}={option} has no {', '.join(dropped)}")
                changed = True
            for name in dropped:
                del said[name]
                _drop_choices(experiment, f"{place}.{name}")
        return changed

    def _not_shared(self, group: str, old: str | None, new: str) -> set[object]:
        """Return the settings that one option of a group has and another has not."""
        before, after = self._schema(group, old), self._schema(group, new)
        if before is None or after is None:
            return set()
        shared = {(known.name, known.type) for known in fields(after)}
        return {known.name for known in fields(before) if (known.name, known.type) not in shared}

    def _chosen_by(self, experiment: DictConfig) -> Choices:
        """Return what an experiment chooses, and those that it builds on."""
        found: dict[str, tuple[str, str | None]] = {}
        for _, base in self._bases(experiment):
            found |= self._chosen_by(self._load(base))
        for entry in _defaults(experiment):
            for key, option in entry.items() if isinstance(entry, dict) else ():
                group, _, place = key.removeprefix("override ").removeprefix("/").partition("@")
                found[place or group] = (group, option)
        return found

    def _bases(self, experiment: DictConfig) -> list[tuple[int, str]]:
        """Return the experiments that one builds on, with their index in its defaults list."""
        known = options("experiment", self.config_dir)
        entries = [(n, e) for n, e in enumerate(_defaults(experiment)) if isinstance(e, str)]
        named = [(index, entry.removeprefix("/experiment/")) for index, entry in entries]
        return [(index, name) for index, name in named if name in known]

    def _load(self, experiment: str) -> DictConfig:
        return _mapping(options("experiment", self.config_dir)[experiment])

    def _schema(self, group: str, option: str | None) -> type | None:
        """Return the type that an option composes; an option of one's own builds on one."""
        if option in GROUPS[group]:
            return GROUPS[group][str(option)]
        file = options(group, self.config_dir).get(str(option))
        entries = _defaults(_mapping(file)) if file else []
        bases = (e.partition("@")[0].rpartition("/")[2] for e in entries if isinstance(e, str))
        return next(filter(None, (self._schema(group, base) for base in bases)), None)


def _mapping(file: Path) -> DictConfig:
    loaded = OmegaConf.load(file)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create()


def _defaults(experiment: DictConfig) -> list[Any]:
    listed = experiment.get("defaults")
    return cast(list[Any], OmegaConf.to_container(listed)) if isinstance(listed, ListConfig) else []


def _drop_choices(experiment: DictConfig, place: str) -> None:
    """Drop what is chosen below a place that is no longer there."""
    experiment.defaults = [
        entry
        for entry in _defaults(experiment)
        if not isinstance(entry, dict) or not any(f"@{place}." in key for key in entry)
    ]
