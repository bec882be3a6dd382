import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.report.trackers import config
from palitune.report.trackers.config import (
    TRACKER_CONFIGS,
    NullTrackerConfig,
    TensorBoardConfig,
    WandbConfig,
    WandbMode,
    has_api_key,
)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def test_trackers_are_registered_by_name() -> None:
    assert sorted(TRACKER_CONFIGS.items()) == [
        ("none", NullTrackerConfig),
        ("tensorboard", TensorBoardConfig),
        ("wandb", WandbConfig),
    ]


def test_every_setting_has_a_default() -> None:
    for kind in TRACKER_CONFIGS.values():
        assert dataclasses.asdict(kind()) is not None


@pytest.mark.parametrize("project", ["", " ", "a/b", "what?"])
def test_an_invalid_project_name_is_an_error(project: str) -> None:
    with pytest.raises(ValueError, match=r"tracking\.project"):
        WandbConfig(project=project)


@pytest.mark.usefixtures("no_key")
def test_without_a_key_the_tracker_stays_offline() -> None:
    assert not has_api_key()
    assert WandbConfig().resolve_mode() == "offline"


@pytest.mark.usefixtures("no_key")
def test_online_without_a_key_is_an_error_and_not_a_prompt() -> None:
    with pytest.raises(RuntimeError, match="WANDB_API_KEY"):
        WandbConfig(mode=WandbMode.online).resolve_mode()


@pytest.mark.usefixtures("no_key")
def test_the_mode_of_the_environment_applies_to_auto_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbConfig().resolve_mode() == "disabled"
    assert WandbConfig(mode=WandbMode.offline).resolve_mode() == "offline"


def test_a_resumed_training_continues_the_same_run_and_a_new_one_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[str | None, str | None]] = []

    def init(id: str | None, resume: str | None, **_: Any) -> SimpleNamespace:
        calls.append((id, resume))
        return SimpleNamespace(id=id or f"run{len(calls)}")

    monkeypatch.setattr(config, "_import_wandb", lambda: SimpleNamespace(init=init))
    for resume in ("auto", "auto", None, "auto"):
        WandbConfig(mode=WandbMode.offline).open(tmp_path, {"training": {"resume": resume}})
    assert calls == [(None, None), ("run1", "allow"), (None, None), ("run3", "allow")]
