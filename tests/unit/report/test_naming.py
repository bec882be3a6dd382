"""Names are short and stay distinct."""

from hypothesis import given
from hypothesis import strategies as st

from palitune.models.adapters.config import Lora
from palitune.models.config import Local, PaliGemma2, Tiny
from palitune.report.naming import (
    folder_names,
    model_display_name,
    model_facts,
    shorten_to_differences,
)


def test_a_model_is_named_without_its_parent_folders() -> None:
    assert model_display_name(PaliGemma2()) == "google/paligemma2-3b-pt-224"
    assert model_display_name(Local(path="/home/me/boats-base")) == "local (boats-base)"
    assert model_display_name(Tiny()) == "tiny (tiny_model)"
    assert model_facts(PaliGemma2(), Lora()) == [
        ("model", "google/paligemma2-3b-pt-224"),
        ("adapter", "none: the base model"),
    ]
    assert model_facts(PaliGemma2(), Lora(path="run/adapter"))[1] == ("adapter", "run/adapter")


def test_paths_are_shortened_to_the_folders_that_differ() -> None:
    adapters = ["null", "runs/lora8/adapter", "runs/lora16/adapter"]
    assert shorten_to_differences(adapters) == ["null", "lora8", "lora16"]
    assert shorten_to_differences(["a/b/c", "a/b/c"]) == ["a/b/c", "a/b/c"]
    assert shorten_to_differences(["/x/a/1/adapter", "/x/b/2/adapter"]) == ["a/1", "b/2"]
    assert shorten_to_differences(["runs/a", "runs/a/b"]) == ["a", "a/b"]
    assert shorten_to_differences(["8", "16"]) == ["8", "16"]


@given(st.lists(st.text("ab/.", min_size=1, max_size=8), max_size=5))
def test_different_paths_stay_different(values: list[str]) -> None:
    plain = [value for value in values if "/" not in value or value == normalized(value)]
    short = shorten_to_differences(plain)
    assert len(short) == len(plain)
    paths = {v: s for v, s in zip(plain, short, strict=True) if "/" in v}
    assert len(set(paths.values())) == len(paths)


def normalized(path: str) -> str:
    """Return a path as pathlib writes it: `a//b/` and `a/b` are the same."""
    from pathlib import PurePath

    return str(PurePath(path))


def test_folder_names_are_numbered_and_contain_no_path_separators() -> None:
    assert folder_names(["base", "adapter=../x y", "a" * 200]) == [
        "0_base", "1_adapter=.._x_y", "2_" + "a" * 98,
    ]  # fmt: skip
    assert folder_names(["a"] * 11)[::10] == ["00_a", "10_a"]
