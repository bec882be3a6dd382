"""Runs of many data sets by domain: means, intervals over data sets, and the worst of them."""

import csv
from pathlib import Path

import pytest

from palitune.errors import DataError
from palitune.report.comparison.domains import (
    compare_domains,
    domain_table,
    read_domains,
    write_domain_files,
)

from support.comparison_runs import REFERENCES, write_run

RIGHT = list(REFERENCES)
DOMAINS = "boats,sea\nfish,sea\ncells,lab\n"


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Three data sets with 12, 6 and 3 of 12 right answers."""
    (tmp_path / "domains.csv").write_text(DOMAINS)
    right = {"boats": 12, "fish": 6, "cells": 3}
    return [
        str(write_run(tmp_path / name, [*RIGHT[:n], *["?"] * (12 - n)], data=f"data/{name}"))
        for name, n in right.items()
    ]


def test_each_domain_has_its_mean_and_its_worst_data_set(tmp_path: Path, runs: list[str]) -> None:
    summaries = compare_domains(runs, tmp_path / "domains.csv", samples=200)
    everything, lab, sea = [entry for entry in summaries if entry.metric == "exact_match"]
    assert (everything.domain, sorted(everything.values)) == ("all", [0.25, 0.5, 1.0])
    assert (lab.domain, lab.values, lab.worst) == ("lab", (0.25,), "cells")
    assert (sea.domain, set(sea.values), sea.worst) == ("sea", {0.5, 1.0}, "fish")
    bounds = everything.interval(everything.values)
    assert bounds is not None
    assert 0.25 <= bounds[0] < sum(everything.values) / 3 < bounds[1] <= 1
    assert sea.interval(sea.values) is None
    text = domain_table(summaries).to_markdown()
    assert "0.583 [0.250, 1.000]" in text
    page = write_domain_files(summaries, tmp_path / "out")
    assert text in page.read_text()
    with (tmp_path / "out" / "domains.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["domain"], r["data_set"], r["value"]) for r in rows} >= {("sea", "fish", "0.5")}


def test_a_data_set_without_domain_or_with_two_runs_is_an_error(
    tmp_path: Path, runs: list[str]
) -> None:
    file = tmp_path / "domains.csv"
    again = write_run(tmp_path / "again", RIGHT, data="other/boats")
    with pytest.raises(DataError, match="data set boats must have one run"):
        compare_domains([*runs, str(again)], file, samples=0)
    file.write_text("boats,sea\n")
    with pytest.raises(DataError, match=r"data set fish of .* must have a domain.*fish,DOMAIN"):
        compare_domains(runs, file, samples=0)
    file.write_text("boats,sea\nfish\n")
    with pytest.raises(DataError, match=r"domains.csv:2: line must be NAME,DOMAIN, got 'fish'"):
        read_domains(file)
    with pytest.raises(DataError, match="does not exist"):
        read_domains(tmp_path / "none.csv")
