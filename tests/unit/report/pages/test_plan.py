"""Durations in a plan."""

import pytest

from palitune.report.pages.plan import format_duration


@pytest.mark.parametrize(
    ("hours", "written"), [(30.04, "30 h"), (0.5, "30 min"), (0.002, "7 s"), (1e-9, "0 s")]
)
def test_a_duration_has_a_suitable_unit(hours: float, written: str) -> None:
    assert format_duration(hours) == written
