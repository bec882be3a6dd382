"""Things are told apart by what differs between them, and stay told apart."""

from hypothesis import given
from hypothesis import strategies as st

from palitune.report.naming import folder_names, shorten_to_differences


def test_paths_are_named_by_the_folders_in_which_they_differ() -> None:
    adapters = ["null", "runs/lora8/adapter", "runs/lora16/adapter"]
    assert shorten_to_differences(adapters) == ["null", "lora8", "lora16"]
    assert shorten_to_differences(["a/b/c", "a/b/c"]) == ["a/b/c", "a/b/c"]
    assert shorten_to_differences(["/x/a/1/adapter", "/x/b/2/adapter"]) == ["a/1", "b/2"]
    assert shorten_to_differences(["runs/a", "runs/a/b"]) == ["a", "a/b"]
    assert shorten_to_differences(["8", "16"]) == ["8", "16"]


@given(st.lists(st.text("ab/.", min_size=1, max_size=8), max_size=5))
def test_what_differs_stays_different(values: list[str]) -> None:
    plain = [value for value in values if "/" not in value or value == normal(value)]
    short = shorten_to_differences(plain)
    assert len(short) == len(plain)
    paths = {v: s for v, s in zip(plain, short, strict=True) if "/" in v}
    assert len(set(paths.values())) == len(paths)


def normal(path: str) -> str:
    """A path as pathlib writes it: `a//b/` and `a/b` are the same place."""
    from pathlib import PurePath

    return str(PurePath(path))


def test_names_of_folders_are_numbered_and_hold_nothing_that_a_path_could_mean() -> None:
    assert folder_names(["base", "adapter=../x y", "a" * 200]) == [
        "0_base", "1_adapter=.._x_y", "2_" + "a" * 98,
    ]  # fmt: skip
    assert folder_names(["a"] * 11)[::10] == ["00_a", "10_a"]
