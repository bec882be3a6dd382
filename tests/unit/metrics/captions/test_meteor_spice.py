"""Metrics that require Java raise a clear error; METEOR equals the values of its program."""

import importlib.util
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from palitune.errors import MetricError
from palitune.metrics import METRICS
from palitune.metrics.captions.meteor_spice import (
    Meteor,
    _tokens_by_image,
    require_pycocoevalcap,
    require_spice_models,
)

from support.caption_corpus import random_caption

JAVA = shutil.which("java") is not None


def test_without_java_the_metric_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for name in ("meteor", "spice"):
        with pytest.raises(MetricError, match=f"metric {name} requires Java, .*Install a Java"):
            METRICS[name]()


def test_without_the_package_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricError, match=r"pip install 'palitune\[captions\]'"):
        require_pycocoevalcap("meteor")


def test_without_its_models_spice_is_refused_and_never_zero(tmp_path: Path) -> None:
    with pytest.raises(
        MetricError, match=r"Stanford CoreNLP 3\.6\.0, which are not in .*spice/lib"
    ):
        require_spice_models(tmp_path)
    lib = tmp_path / "spice" / "lib"
    lib.mkdir(parents=True)
    for name in ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"):
        (lib / name).touch()
    require_spice_models(tmp_path)


def test_meteor_is_what_its_program_says_or_a_sentence_where_it_cannot_run() -> None:
    if not JAVA:
        with pytest.raises(MetricError, match="Install a Java runtime"):
            METRICS["meteor"]()
        return
    from pycocoevalcap.meteor.meteor import Meteor as Program

    chance = random.Random(3)
    metric = Meteor()
    metric.references = [tuple(random_caption(chance) for _ in range(3)) for _ in range(40)]
    metric.answers = [
        chance.choice([texts[0], texts[1].rsplit(" ", 2)[0], random_caption(chance), ""])
        for texts in metric.references
    ]
    corpus, scores = Program().compute_score(*_tokens_by_image(metric.answers, metric.references))
    found = [row["meteor"] for row in metric.per_example_scores()]
    assert found == pytest.approx(scores, abs=1e-12)
    assert metric.compute()["meteor"] == pytest.approx(corpus, abs=1e-12)
    twice, first = metric.compute_weighted(np.array([[2.0] * 40, [1] + [0] * 39]))["meteor"]
    assert (twice, first) == pytest.approx((corpus, scores[0]))


def test_an_empty_corpus_starts_no_program() -> None:
    if JAVA:
        assert math.isnan(Meteor().compute()["meteor"])


def test_a_program_that_dies_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    metric = Meteor()
    metric.answers, metric.references = ["a"], [("a",)]
    with pytest.raises(MetricError, match="metric meteor: the Java program failed"):
        metric.compute()
