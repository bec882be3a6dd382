"""A floor imports only from its own floor or lower ones; Hydra stays in `config`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "palitune"
FLOORS = [
    "__init__ embedded errors paths records",
    "codec distributed",
    "metrics models",
    "tasks",
    "data",
    "alignment evaluation export planning training",
    "report",
    "cli config sweeps __main__",
]
FLOOR = {name: level for level, names in enumerate(FLOORS) for name in names.split()}
HYDRA = {"hydra", "omegaconf"}
MODULES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted name of everything imported anywhere in a module, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import from palitune on"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_point_downward(module: Path) -> None:
    own = module.relative_to(PACKAGE).with_suffix("").parts[0]
    assert own in FLOOR, f"{own} has no floor yet: give it one in FLOORS"
    for name in imported(ast.parse(module.read_text())):
        package, _, rest = name.partition(".")
        if package == "palitune" and rest:
            part = rest.split(".")[0]
            # `from palitune import __version__` names no module: it comes from the package itself
            level = FLOOR.get(part, 0)
            assert level <= FLOOR[own], f"{own} must not import {name}, which is a floor above"


@pytest.mark.parametrize("module", MODULES + RECIPES, ids=name_of)
def test_hydra_stays_in_config(module: Path) -> None:
    packages = {name.split(".")[0] for name in imported(ast.parse(module.read_text()))}
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
    ],
)
def test_every_way_to_import_is_seen(source: str, names: list[str]) -> None:
    assert list(imported(ast.parse(source))) == names
