"""The default number of data loader workers depends on the cores per process."""

import os

import pytest

from palitune.data.loader_workers import resolve_num_workers


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 1), (2, 1, 1), (4, 1, 3), (32, 1, 8), (32, 8, 3), (4, 8, 1)],
)
def test_each_process_leaves_a_core_for_itself(
    cores: int, processes: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert resolve_num_workers(None) == workers


@pytest.mark.parametrize("requested", [0, 1, 40])
def test_a_configured_number_is_kept(requested: int) -> None:
    assert resolve_num_workers(requested) == requested
