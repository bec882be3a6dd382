"""Experiment trackers and their settings: none, Weights & Biases, TensorBoard."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol

from palitune.report.run_reader import RunFolder

_log = logging.getLogger(__name__)

WANDB_ID_FILE = "wandb_id.txt"
"""File with the id of the Weights & Biases run, which a resumed training continues."""


class Tracker(Protocol):
    """An open connection to a tracker."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics by name at an optimizer step."""

    def publish(self, run: RunFolder) -> None:
        """Log the results of a finished run: metrics, examples, report and adapter."""

    def finish(self) -> None:
        """Write buffered data and close."""


@dataclass(kw_only=True)
class TrackerConfig(ABC):
    """Settings of a tracker."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        """Open the tracker. Any exception, now or later, is handled by `FailSafeTracker`."""


class NullTracker:
    """Tracker that logs nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def publish(self, run: RunFolder) -> None:
        pass

    def finish(self) -> None:
        pass


@dataclass(kw_only=True)
class NullTrackerConfig(TrackerConfig):
    """No tracker; `history.jsonl` and `report.html` in the run folder hold everything."""

    name: ClassVar[str] = "none"

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        return NullTracker()


class WandbMode(Enum):
    """Connection to Weights & Biases."""

    auto = "auto"
    """WANDB_MODE if set, else online with an API key and offline without one."""
    online = "online"
    offline = "offline"
    """Log into the run folder; `wandb sync` uploads it later."""
    disabled = "disabled"


@dataclass(kw_only=True)
class WandbConfig(TrackerConfig):
    name: ClassVar[str] = "wandb"

    project: str = "palitune"
    """Project of the run."""
    entity: str | None = None
    """User or team that owns the project; null: the owner of the API key."""
    run_name: str | None = None
    """Name of the run; null: name of the run folder."""
    tags: list[str] = field(default_factory=list)
    """Tags of the run."""
    mode: WandbMode = WandbMode.auto
    """auto | online | offline | disabled."""
    log_model: bool = True
    """Upload the adapter as an artifact; for `adapter=full` this is the whole model."""

    def __post_init__(self) -> None:
        if not self.project.strip() or set(self.project) & set("/\\#?%:"):
            raise ValueError(
                f"tracking.project must be a name without / \\ # ? % :, got {self.project!r}."
            )

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        mode = self.resolve_mode()
        if mode == "offline":
            # Otherwise the library opens connections to report its own errors.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            _log.info(
                "wandb is offline; upload the run with: wandb sync %s/wandb/offline-*", folder
            )
        from palitune.report.trackers.wandb_tracker import WandbTracker

        file = folder / WANDB_ID_FILE
        resumes = dict(config.get("training", {})).get("resume") is not None and file.is_file()
        run = _import_wandb().init(
            project=self.project,
            entity=self.entity,
            name=self.run_name or folder.resolve().name,
            tags=self.tags,
            dir=folder,
            config=dict(config),
            mode=mode,
            id=file.read_text(encoding="utf-8").strip() if resumes else None,
            resume="allow" if resumes else None,
            # One run per folder, also if the process has tracked another run before.
            reinit="create_new",
            settings={"console": "off", "disable_job_creation": True},
        )
        file.write_text(run.id + "\n", encoding="utf-8")
        return WandbTracker(run, log_model=self.log_model)

    def resolve_mode(self) -> str:
        """Resolve `auto` to online | offline | disabled.

        Raises:
            RuntimeError: The mode is online without an API key, for which wandb would prompt.
        """
        mode = self.mode.value
        if self.mode is WandbMode.auto:
            mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
        if mode == "online" and not has_api_key():
            raise RuntimeError("no API key found. Set WANDB_API_KEY or tracking.mode=offline")
        return mode


@dataclass(kw_only=True)
class TensorBoardConfig(TrackerConfig):
    """TensorBoard event files in the folder `tensorboard` of the run folder."""

    name: ClassVar[str] = "tensorboard"

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        from palitune.report.trackers.tensorboard_tracker import TensorBoardTracker

        return TensorBoardTracker(folder / "tensorboard", config)


def has_api_key() -> bool:
    """Return whether WANDB_API_KEY or the netrc file has a key for Weights & Biases."""
    return bool(_import_wandb().login(prompt=False, verify=False))


def _import_wandb() -> Any:
    """Import wandb without output in the terminal; it keeps its own log files."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    return wandb


TRACKER_CONFIGS: dict[str, type[TrackerConfig]] = {
    kind.name: kind for kind in (NullTrackerConfig, WandbConfig, TensorBoardConfig)
}
