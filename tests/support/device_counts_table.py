"""The table of launches, syncs and copies, printed at the end of a test session."""

from typing import Any

PROPERTY = "device_counts"
KINDS = ("launches", "syncs", "copies", "mixes")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the counts that tests recorded as a property, beside those that are allowed."""
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not rows:
        return
    terminalreporter.section("work for a GPU, by step (in brackets: allowed)")
    terminalreporter.line(f"{'':44}" + "".join(f"{kind:>18}" for kind in KINDS))
    for name, counts, allowed in sorted(rows):
        cells = (f"{counts[kind]:,} ({allowed[kind]:,})" for kind in KINDS)
        terminalreporter.line(f"{name:44}" + "".join(f"{cell:>18}" for cell in cells))
