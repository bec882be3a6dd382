"""A saved tree is loaded bit by bit, and other types are rejected."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from palitune.training.state.resume import get_rng_states, set_rng_states
from palitune.training.state.state_files import load_tree, save_tree

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TENSORS = st.lists(st.floats(width=32), max_size=4).map(torch.tensor)
KEYS = st.text() | st.integers() | st.sampled_from(["!tensor", "!tuple", "!map"])
TREES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        same_kind = one.dtype == other.dtype and one.shape == other.shape
        return same_kind and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@hypothesis.given(tree=TREES)
def test_a_tree_is_loaded_as_it_was_saved(
    tree: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stem = tmp_path_factory.getbasetemp() / "tree"
    save_tree(stem, tree)
    assert same(load_tree(stem), tree)


def test_other_types_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="/a/0 is a Path"):
        save_tree(tmp_path / "tree", {"a": [type("Path", (), {})()]})


def test_an_8_bit_optimizer_resumes(tmp_path: Path) -> None:
    from bitsandbytes.optim import AdamW8bit

    def make_optimizer(weight: torch.nn.Parameter) -> Any:
        return AdamW8bit([weight], lr=0.1, min_8bit_size=1)

    def step(weight: torch.nn.Parameter, optimizer: Any) -> None:
        (weight**2).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    weight = torch.nn.Parameter(torch.linspace(-1, 1, 512))
    first = make_optimizer(weight)
    step(weight, first)
    save_tree(tmp_path / "state", first.state_dict())
    copy = torch.nn.Parameter(weight.detach().clone())
    second = make_optimizer(copy)
    second.load_state_dict(load_tree(tmp_path / "state"))
    step(weight, first)
    step(copy, second)
    assert torch.equal(weight, copy)


def test_random_generators_resume(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    save_tree(tmp_path / "rng", get_rng_states())
    expected = draw()
    set_rng_states(load_tree(tmp_path / "rng"))
    assert draw() == expected
