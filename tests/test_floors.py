"""Imports between packages point downward, and no modules import each other in a circle."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "palitune"
TABLE = ROOT / "docs" / "architecture.md"
HYDRA = {"hydra", "omegaconf"}
MODULES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))

Graph = Mapping[str, set[str]]


def read_floors(text: str) -> dict[str, int]:
    """Return the floor of each package in the table `| floor | packages | contents |`."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of each import in a module, also in functions and for type checking."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(file: Path) -> str:
    """Return the dotted name of a module of the package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_module(name: str, modules: set[str]) -> str | None:
    """Return the module that an import refers to: itself, or the one that defines the name."""
    parent = name.rpartition(".")[0]
    return name if name in modules else parent if parent in modules else None


@cache
def import_graph() -> Graph:
    """Return the modules that each module of the package imports."""
    names = {module_name(file): file for file in MODULES}
    return {
        name: {
            module
            for imported in imports(ast.parse(file.read_text(encoding="utf-8")))
            if (module := imported_module(imported, set(names))) and module != name
        }
        for name, file in names.items()
    }


def find_circles(graph: Graph) -> list[set[str]]:
    """Return the groups of two or more modules that import each other directly or indirectly."""
    reachable = {module: _reachable(graph, module) for module in graph}
    circles: list[set[str]] = []
    for module in graph:
        circle = {other for other in reachable[module] if module in reachable[other]}
        if module in reachable[module] and circle not in circles:
            circles.append(circle)
    return circles


def _reachable(graph: Graph, start: str) -> set[str]:
    """Return the modules that are imported by one, directly or indirectly."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen


def floor_of(module: str, floors: Mapping[str, int]) -> int:
    """Return the floor of a module; `palitune` itself holds only the version."""
    package = module.split(".")[1] if "." in module else None
    return floors[package] if package else 0


def relative_path(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_the_table_lists_every_package_once_and_no_other() -> None:
    entries = [path for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"]
    floors = read_floors(TABLE.read_text(encoding="utf-8"))
    assert set(floors) == {path.stem for path in entries} - {"__init__", "__pycache__"}


@pytest.mark.parametrize("module", import_graph())
def test_imports_point_downward(module: str) -> None:
    floors = read_floors(TABLE.read_text(encoding="utf-8"))
    own_floor = floor_of(module, floors)
    upward = {name for name in import_graph()[module] if floor_of(name, floors) > own_floor}
    assert not upward, f"{module} is on floor {own_floor} of docs/architecture.md"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert [sorted(circle) for circle in find_circles(import_graph())] == []


@pytest.mark.parametrize("file", MODULES + RECIPES, ids=relative_path)
def test_hydra_stays_in_config(file: Path) -> None:
    packages = {name.split(".")[0] for name in imports(ast.parse(file.read_text()))}
    assert file.is_relative_to(PACKAGE / "config") or not packages & HYDRA


def test_embedded_holds_data_and_no_code() -> None:
    code = [path for path in MODULES if "embedded" in path.relative_to(PACKAGE).parts]
    assert all(path.name == "__init__.py" for path in code)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import hydra.utils", ["hydra.utils"]),
        ("def f():\n    from omegaconf import OmegaConf", ["omegaconf.OmegaConf"]),
        ("if TYPE_CHECKING:\n    import palitune.data", ["palitune.data"]),
        ("from palitune import data, models", ["palitune.data", "palitune.models"]),
        ("import palitune.report as report", ["palitune.report"]),
    ],
)
def test_every_form_of_import_is_found(source: str, names: list[str]) -> None:
    assert list(imports(ast.parse(source))) == names


def test_an_import_refers_to_a_module_or_to_a_name_in_one() -> None:
    modules = {"palitune", "palitune.data", "palitune.data.dataset"}
    names = [
        "palitune.data.dataset",
        "palitune.data.dataset.load",
        "palitune.data.SOURCES",
        "torch",
    ]
    assert [imported_module(name, modules) for name in names] == [
        "palitune.data.dataset", "palitune.data.dataset", "palitune.data", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("graph", "circles"),
    [
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [{"a", "b"}]),
        ({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, [{"b", "c", "d"}]),
        ({"a": {"b"}, "b": {"a"}, "c": {"d", "a"}, "d": {"c"}}, [{"a", "b"}, {"c", "d"}]),
        ({"a": {"a"}}, [{"a"}]),
    ],
)
def test_circles_are_found_in_a_made_up_graph(
    graph: dict[str, set[str]], circles: list[set[str]]
) -> None:
    assert find_circles(graph) == circles


def test_the_table_is_read_row_by_row() -> None:
    text = "| floor | packages |\n|---|---|\n| 1 | `a` `b` | one |\n| 2 | `c` | `not_this` |\n"
    assert read_floors(text) == {"a": 1, "b": 1, "c": 2}
