"""Where numbers and results go besides the run folder: nowhere, Weights & Biases, TensorBoard."""

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
"""Names the run of Weights & Biases in a run folder, so that a resumed training goes on in it."""


class Tracker(Protocol):
    """An open connection to a tracker."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers by name at an optimizer step."""

    def publish(self, run: RunFolder) -> None:
        """Record what a finished run wrote down: its numbers, examples, report and adapter."""

    def finish(self) -> None:
        """Write out what is left and close."""


@dataclass(kw_only=True)
class TrackerConfig(ABC):
    """Which tracker follows a run."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        """Open the tracker; it may raise anything, and may raise later: see `tracking.start`."""


class NullTracker:
    """The tracker that records nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def publish(self, run: RunFolder) -> None:
        pass

    def finish(self) -> None:
        pass


@dataclass(kw_only=True)
class NullTrackerConfig(TrackerConfig):
    """Only the run folder: `history.jsonl` and `report.html` hold everything."""

    name: ClassVar[str] = "none"

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        return NullTracker()


class WandbMode(Enum):
    """How Weights & Biases is reached."""

    auto = "auto"
    """WANDB_MODE where it is set; else online where a key is known, offline where none is."""
    online = "online"
    offline = "offline"
    """Into the run folder; `wandb sync` sends it later."""
    disabled = "disabled"


@dataclass(kw_only=True)
class WandbConfig(TrackerConfig):
    name: ClassVar[str] = "wandb"

    project: str = "palitune"
    """Project that the run is filed under."""
    entity: str | None = None
    """User or team that owns the project; null: the key's own."""
    run_name: str | None = None
    """Name of the run; null: the name of the run folder."""
    tags: list[str] = field(default_factory=list)
    """Words to find the run by."""
    mode: WandbMode = WandbMode.auto
    """auto | online | offline | disabled."""
    log_model: bool = True
    """Also send the adapter, as an artifact; of `adapter=full` that is the whole model."""

    def __post_init__(self) -> None:
        if not self.project.strip() or set(self.project) & set("/\\#?%:"):
            raise ValueError(
                f"tracking.project {self.project!r}: a name without any of / \\ # ? % :"
            )

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        mode = self.resolve_mode()
        if mode == "offline":
            # Else the library resolves its host name to report its own faults.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            _log.info("wandb is offline; send the run later: wandb sync %s/wandb/offline-*", folder)
        from palitune.report.trackers.wandb_tracker import WandbTracker

        file = folder / WANDB_ID_FILE
        goes_on = dict(config.get("training", {})).get("resume") is not None and file.is_file()
        run = _import_wandb().init(
            project=self.project,
            entity=self.entity,
            name=self.run_name or folder.resolve().name,
            tags=self.tags,
            dir=folder,
            config=dict(config),
            mode=mode,
            id=file.read_text(encoding="utf-8").strip() if goes_on else None,
            resume="allow" if goes_on else None,
            # A run of its own per folder, also where the process has tracked another before.
            reinit="create_new",
            settings={"console": "off", "disable_job_creation": True},
        )
        file.write_text(run.id + "\n", encoding="utf-8")
        return WandbTracker(run, log_model=self.log_model)

    def resolve_mode(self) -> str:
        """Decide what `auto` means here: online | offline | disabled.

        Raises RuntimeError where online is asked for and no key is set: it would be prompted for.
        """
        mode = self.mode.value
        if self.mode is WandbMode.auto:
            mode = os.environ.get("WANDB_MODE") or ("online" if has_api_key() else "offline")
        if mode == "online" and not has_api_key():
            raise RuntimeError("no key is set; set WANDB_API_KEY or tracking.mode=offline")
        return mode


@dataclass(kw_only=True)
class TensorBoardConfig(TrackerConfig):
    """Event files in the run folder's `tensorboard`: `tensorboard --logdir` shows them."""

    name: ClassVar[str] = "tensorboard"

    def open(self, folder: Path, config: Mapping[str, Any]) -> Tracker:
        from palitune.report.trackers.tensorboard_tracker import TensorBoardTracker

        return TensorBoardTracker(folder / "tensorboard", config)


def has_api_key() -> bool:
    """Tell whether a key for Weights & Biases is set, in WANDB_API_KEY or the netrc file."""
    return bool(_import_wandb().login(prompt=False, verify=False))


def _import_wandb() -> Any:
    """Import the library so that it says nothing in the terminal; it keeps its own log files."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    return wandb


TRACKER_CONFIGS: dict[str, type[TrackerConfig]] = {
    kind.name: kind for kind in (NullTrackerConfig, WandbConfig, TensorBoardConfig)
}
