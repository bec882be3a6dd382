import pytest

from palitune.metrics import METRICS
from palitune.report.metric_descriptions import (
    define_value,
    define_values,
    describe_metric,
    describe_metrics,
)
from palitune.report.metrics_table import metric_values


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


def test_every_reported_number_of_a_run_has_a_definition() -> None:
    names = ("f1@.5", "AP", "AP50", "mask_AP50", "malformed", "unfinished")
    values = metric_values(
        {"after": {**{f"a/{name}": 0.5 for name in names}, "b/exact_match": 0.5, "b/share": 0.1}}
    )
    parts = {"a": ["detection", "segmentation"], "b": ["exact_match"]}
    definitions = define_values(values, parts)
    assert set(definitions) == {*names, "exact_match", "share"}
    assert definitions["share"] == describe_metric("exact_match")
    assert definitions["mask_AP50"].startswith("Of masks: ")


def test_a_number_is_defined_by_its_name_or_not_at_all() -> None:
    assert define_value("AP75") == "Average precision of COCO at IoU .75, mean over classes."
    assert define_value("exact_match") == describe_metric("exact_match")
    assert define_value("invented") == ""
