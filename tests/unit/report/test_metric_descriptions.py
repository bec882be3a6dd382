import pytest

from palitune.metrics import METRICS
from palitune.report.metric_descriptions import describe_metric, describe_metrics


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_is_explained_in_a_sentence_or_two(name: str) -> None:
    description = describe_metric(name)
    assert 40 < len(description) < 700
    assert description[0].isupper()
    assert description.endswith(".")
    assert "`" not in description


def test_variants_of_a_metric_have_different_descriptions() -> None:
    assert describe_metric("anls_rrc").startswith("ANLS: average normalized Levenshtein similarity")
    assert "Robust Reading Competition" in describe_metric("anls_rrc")
    assert "big_vision" in describe_metric("anls_paper")
    assert describe_metric("anls_rrc") != describe_metric("anls_paper")


def test_the_metrics_of_a_run_are_those_of_its_tasks() -> None:
    alone = {"task": {"metrics": ["exact_match", "of an older version"]}, "data": {"path": ""}}
    assert list(describe_metrics(alone)) == ["exact_match"]
    parts = {"a": {"task": {"metrics": ["detection"]}}, "b": {"task": {"metrics": ["anls_rrc"]}}}
    assert list(describe_metrics({"task": None, "data": {"parts": parts}})) == [
        "detection",
        "anls_rrc",
    ]


@pytest.mark.parametrize("settings", [{}, {"task": "ocr"}, {"task": {}, "data": {"parts": 3}}])
def test_a_configuration_without_metrics_has_none(settings: dict[str, object]) -> None:
    assert describe_metrics(settings) == {}
