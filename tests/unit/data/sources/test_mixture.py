"""Mixtures of data sets with their own tasks, and the registry of sources."""

import subprocess
import sys
from typing import Any

import pytest

from palitune.data.registry import SOURCES
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.data.sources.mixture import Mixture, MixtureComponent
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa


def part(repeat: int = 1) -> MixtureComponent:
    return MixtureComponent(task=Vqa(), data=Handwriting(), repeat=repeat)


def test_each_component_has_its_own_task() -> None:
    parts = {"ocr": MixtureComponent(task=Ocr(), data=Handwriting()), "questions": part(repeat=3)}
    specs = Mixture(parts=parts).dataset_specs(None)
    assert [(p.name, p.task, p.source, p.repeat) for p in specs] == [
        ("ocr", Ocr(), Handwriting(annotations=EmbeddedAnnotationKind.ocr), 1),
        ("questions", Vqa(), Handwriting(annotations=EmbeddedAnnotationKind.vqa), 3),
    ]


def test_the_limit_of_a_mixture_applies_to_components_without_one() -> None:
    limited = MixtureComponent(task=Ocr(), data=Handwriting(max_samples=9))
    specs = Mixture(parts={"limited": limited, "questions": part()}, max_samples=5).dataset_specs(
        None
    )
    assert [spec.source.max_samples for spec in specs] == [9, 5]
    assert limited.data.max_samples == 9


def test_a_mixture_with_another_task_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^task must not be set for a mixture, .* task=ocr, or choose"
    ):
        Mixture(parts={"a": part()}).dataset_specs(Ocr())


def test_names_and_repeats_of_components_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^data\.parts must have at least one component"):
        Mixture(parts={})
    with pytest.raises(
        ValueError, match=r"^data\.parts: a name must consist of letters, .* got 'a/b'\.$"
    ):
        Mixture(parts={"a/b": part()})
    with pytest.raises(ValueError, match=r"repeat must be at least 1, got 0\.$"):
        part(repeat=0)


def weighted(weight: float | None, **settings: Any) -> MixtureComponent:
    return MixtureComponent(task=Vqa(), data=Handwriting(), weight=weight, **settings)


def test_weights_temperature_and_shots_are_in_the_specs() -> None:
    parts = {"a": weighted(3), "b": weighted(1, shots=16), "evaluated": weighted(0)}
    specs = Mixture(parts=parts).dataset_specs(None)
    assert [(p.weight, p.temperature, p.shots) for p in specs] == [
        (3, None, None),
        (1, None, 16),
        (0, None, None),
    ]
    specs = Mixture(parts={"a": part(), "evaluated": weighted(0)}, temperature=2).dataset_specs(
        None
    )
    assert [(p.weight, p.temperature) for p in specs] == [(None, 2), (0, 2)]


@pytest.mark.parametrize(
    ("parts", "temperature", "sentence"),
    [
        ({"a": (1, {}), "b": (None, {})}, None, r"^data\.parts\.b\.weight is missing\. If one"),
        (
            {"a": (0, {}), "b": (0.0, {})},
            None,
            r"^data\.parts: at least one weight must be above 0\.$",
        ),
        (
            {"a": (1, {"repeat": 2})},
            None,
            r"^data\.parts\.\*: weight=1 and repeat=2 exclude each other",
        ),
        (
            {"a": (-1, {})},
            None,
            r"^data\.parts\.\*\.weight must be at least 0 and below inf, got -1\.$",
        ),
        ({"a": (float("nan"), {})}, None, r"weight must be at least 0 and below inf, got nan\.$"),
        (
            {"a": (None, {"shots": 0})},
            None,
            r"^data\.parts\.\*\.shots must be at least 1, got 0\.$",
        ),
        ({"a": (None, {})}, 0, r"^data\.temperature must be above 0, got 0\.$"),
        (
            {"a": (2, {})},
            2,
            r"^data\.temperature excludes weight and repeat\. .* data\.parts\.a, or",
        ),
        (
            {"a": (None, {"repeat": 2})},
            2,
            r"^data\.temperature excludes weight and repeat\. Remove",
        ),
    ],
)
def test_contradicting_weights_are_refused(
    parts: dict[str, tuple[float | None, dict[str, int]]], temperature: float | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Mixture(
            parts={
                name: weighted(weight, **settings) for name, (weight, settings) in parts.items()
            },
            temperature=temperature,
        )


def test_sources_are_registered_by_name() -> None:
    assert {"jsonl", "coco", "handwriting", "mixture"} <= set(SOURCES)
    assert all(source.name == name for name, source in SOURCES.items())


@pytest.mark.parametrize("module", ["palitune.data", "palitune.data.sources.mixture"])
def test_settings_import_no_heavy_library(module: str) -> None:
    heavy = "{'PIL', 'pyarrow', 'torch', 'transformers', 'datasets', 'rich'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
