import pytest

from palitune.metrics import METRICS
from palitune.report.provenance import explained, metrics_of


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_is_explained_in_a_sentence_or_two(name: str) -> None:
    told = explained(name)
    assert 40 < len(told) < 700
    assert told[0].isupper()
    assert told.endswith(".")
    assert "`" not in told


def test_variants_of_a_metric_are_told_apart() -> None:
    assert explained("anls_rrc").startswith("ANLS: average normalised Levenshtein similarity")
    assert "Robust Reading Competition" in explained("anls_rrc")
    assert "big_vision" in explained("anls_paper")
    assert explained("anls_rrc") != explained("anls_paper")


def test_the_metrics_of_a_run_are_those_of_its_tasks() -> None:
    alone = {"task": {"metrics": ["exact_match", "of an older version"]}, "data": {"path": ""}}
    assert list(metrics_of(alone)) == ["exact_match"]
    parts = {"a": {"task": {"metrics": ["detection"]}}, "b": {"task": {"metrics": ["anls_rrc"]}}}
    assert list(metrics_of({"task": None, "data": {"parts": parts}})) == ["detection", "anls_rrc"]


@pytest.mark.parametrize("settings", [{}, {"task": "ocr"}, {"task": {}, "data": {"parts": 3}}])
def test_a_configuration_without_metrics_has_none(settings: dict[str, object]) -> None:
    assert metrics_of(settings) == {}
