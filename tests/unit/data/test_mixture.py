"""A mixture brings its own tasks; sources and mixture are known by name and cheap to import."""

import subprocess
import sys
from typing import Any

import pytest

from palitune.data.mixture import Mixture, MixtureComponent
from palitune.data.registry import SOURCES
from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa


def part(repeat: int = 1) -> MixtureComponent:
    return MixtureComponent(task=Vqa(), data=Handwriting(), repeat=repeat)


def test_each_part_is_paired_with_its_own_task() -> None:
    parts = {"ocr": MixtureComponent(task=Ocr(), data=Handwriting()), "questions": part(repeat=3)}
    pairings = Mixture(parts=parts).dataset_specs(None)
    assert [(p.name, p.task, p.source, p.repeat) for p in pairings] == [
        ("ocr", Ocr(), Handwriting(annotations=EmbeddedAnnotationKind.ocr), 1),
        ("questions", Vqa(), Handwriting(annotations=EmbeddedAnnotationKind.vqa), 3),
    ]


def test_the_limit_of_a_mixture_holds_for_every_part_that_sets_none() -> None:
    own = MixtureComponent(task=Ocr(), data=Handwriting(max_samples=9))
    pairings = Mixture(parts={"own": own, "questions": part()}, max_samples=5).dataset_specs(None)
    assert [pairing.source.max_samples for pairing in pairings] == [9, 5]
    assert own.data.max_samples == 9


def test_a_task_beside_a_mixture_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^task: the parts of a mixture .* task=ocr or choose"):
        Mixture(parts={"a": part()}).dataset_specs(Ocr())


def test_a_mixture_has_parts_with_usable_names_and_visits() -> None:
    with pytest.raises(ValueError, match=r"^data\.parts: a mixture needs at least one part"):
        Mixture(parts={})
    with pytest.raises(ValueError, match=r"^data\.parts: 'a/b' is not a name of letters"):
        Mixture(parts={"a/b": part()})
    with pytest.raises(ValueError, match=r"repeat must be at least 1, not 0$"):
        part(repeat=0)


def weighted(weight: float | None, **told: Any) -> MixtureComponent:
    return MixtureComponent(task=Vqa(), data=Handwriting(), weight=weight, **told)


def test_weights_temperature_and_shots_reach_the_pairings() -> None:
    parts = {"a": weighted(3), "b": weighted(1, shots=16), "judged": weighted(0)}
    pairings = Mixture(parts=parts).dataset_specs(None)
    assert [(p.weight, p.temperature, p.shots) for p in pairings] == [
        (3, None, None),
        (1, None, 16),
        (0, None, None),
    ]
    pairings = Mixture(parts={"a": part(), "judged": weighted(0)}, temperature=2).dataset_specs(
        None
    )
    assert [(p.weight, p.temperature) for p in pairings] == [(None, 2), (0, 2)]


@pytest.mark.parametrize(
    ("parts", "temperature", "sentence"),
    [
        ({"a": (1, {}), "b": (None, {})}, None, r"^data\.parts\.b\.weight is missing: where one"),
        ({"a": (0, {}), "b": (0.0, {})}, None, r"^data\.parts: every weight is 0, so that nothing"),
        ({"a": (1, {"repeat": 2})}, None, r"^data\.parts\.\*: weight=1 and repeat=2 both say"),
        ({"a": (-1, {})}, None, r"^data\.parts\.\*\.weight must be at least 0, not -1$"),
        ({"a": (float("nan"), {})}, None, r"weight must be at least 0, not nan$"),
        ({"a": (None, {"shots": 0})}, None, r"^data\.parts\.\*\.shots must be at least 1, not 0$"),
        ({"a": (None, {})}, 0, r"^data\.temperature must be above 0, not 0$"),
        ({"a": (2, {})}, 2, r"^data\.temperature weighs the parts itself; .* data\.parts\.a, or"),
        ({"a": (None, {"repeat": 2})}, 2, r"^data\.temperature weighs the parts itself; leave"),
    ],
)
def test_contradicting_weights_are_refused_in_a_sentence(
    parts: dict[str, tuple[float | None, dict[str, int]]], temperature: float | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        Mixture(
            parts={name: weighted(weight, **told) for name, (weight, told) in parts.items()},
            temperature=temperature,
        )


def test_sources_are_known_by_their_names() -> None:
    assert {"jsonl", "coco", "handwriting", "mixture"} <= set(SOURCES)
    assert all(source.name == name for name, source in SOURCES.items())


@pytest.mark.parametrize("module", ["palitune.data", "palitune.data.mixture"])
def test_the_settings_import_no_heavy_library(module: str) -> None:
    heavy = "{'PIL', 'pyarrow', 'torch', 'transformers', 'datasets', 'rich'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
