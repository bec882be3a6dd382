"""Imports point downward through the floors of docs/architecture.md, without circles."""

import ast
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "palitune"
HYDRA = {"hydra", "omegaconf"}
MODULES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))
MAX_FILES = 17
"""Python files of one folder, besides `__init__.py`."""


def read_floors() -> dict[str, int]:
    """Return the floor of every package, from the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+` ?)+)\|", text, re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}


FLOORS = read_floors()


def module_name(file: Path) -> str:
    parts = ("palitune", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in MODULES}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of every import of a module, also inside functions and conditions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports must be absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(file: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    names = imported_names(ast.parse(file.read_text(encoding="utf-8")))
    modules = (name if name in FILES else name.rpartition(".")[0] for name in names)
    return {module for module in modules if module in FILES}


def find_circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for neighbor in graph.get(node, ()):
            if neighbor not in index:
                visit(neighbor)
                lowest[node] = min(lowest[node], lowest[neighbor])
            elif neighbor in stack:
                lowest[node] = min(lowest[node], index[neighbor])
        if lowest[node] == index[node]:
            start = stack.index(node)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1 or node in graph.get(node, ()):
                circles.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return circles


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports_point_downward(name: str) -> None:
    if name == "palitune":
        assert not imported_modules(FILES[name])
        return
    package = name.split(".")[1]
    assert package in FLOORS, f"{package} has no floor: add it to the table in docs/architecture.md"
    for module in imported_modules(FILES[name]) - {"palitune"}:
        other = module.split(".")[1]
        assert FLOORS[other] <= FLOORS[package], f"{name} must not import {module}: a floor above"


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {name: imported_modules(file) - {name} for name, file in FILES.items()}
    assert find_circles(graph) == []


@pytest.mark.parametrize(
    ("graph", "circles"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"a"}, "b": {"a"}}, [["a"]]),
        ({"a": {"b", "c"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}, [["c", "d"], ["a", "b"]]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], circles: list[list[str]]) -> None:
    assert sorted(find_circles(graph)) == sorted(circles)


def test_the_table_names_exactly_the_packages_that_exist() -> None:
    packages = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() or path.suffix == ".py") and path.stem not in ("__init__", "__pycache__")
    }
    assert set(FLOORS) == packages


def test_the_house_is_small_enough_to_remember() -> None:
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(set(FLOORS.values())) <= 11
    assert len(folders) <= 16
    assert modules == {"errors", "paths", "records"}
    for folder in {file.parent for file in MODULES}:
        files = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        assert len(files) <= MAX_FILES, f"{folder} holds {len(files)} modules"


@pytest.mark.parametrize("module", MODULES + RECIPES, ids=lambda file: str(file.relative_to(ROOT)))
def test_hydra_is_imported_by_config_only(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    packages = {name.split(".")[0] for name in imported_names(tree)}
    assert module.is_relative_to(PACKAGE / "config") or not packages & HYDRA


def test_embedded_holds_data_and_no_code() -> None:
    code = [path for path in MODULES if "embedded" in path.relative_to(PACKAGE).parts]
    assert all(path.name == "__init__.py" for path in code)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import hydra.utils", ["hydra.utils"]),
        ("def f():\n    from omegaconf import OmegaConf", ["omegaconf.OmegaConf"]),
        ("from palitune import data, models", ["palitune.data", "palitune.models"]),
        ("import palitune.report as report", ["palitune.report"]),
        ("if TYPE_CHECKING:\n    from palitune.data import io", ["palitune.data.io"]),
    ],
)
def test_every_form_of_import_is_found(source: str, names: list[str]) -> None:
    assert list(imported_names(ast.parse(source))) == names
