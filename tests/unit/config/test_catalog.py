"""The catalog of recipes, groups, options and settings, as read from the files."""

from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge

from palitune.config import catalog
from palitune.config.catalog import FieldDoc
from palitune.config.recipes import GROUPS
from palitune.errors import ConfigError
from palitune.paths import resource_dir


class Color(Enum):
    red = "red"
    blue = "blue"


@dataclass(kw_only=True)
class Boat:
    length: Annotated[int, Ge(1)]
    """Length in metres,
    from bow to stern."""
    color: Color = Color.red
    owner: str | None = None
    """Name of the owner."""


@dataclass(kw_only=True)
class Ferry(Boat):
    color: Color = Color.blue
    harbors: list[str] = field(default_factory=lambda: ["Kiel", "Oslo"])
    cars: dict[str, int] = field(default_factory=dict)
    open: bool = True
    """Open deck."""


def test_field_docs_are_read_from_the_source_with_docstrings_and_ranges() -> None:
    assert catalog.field_docs(Ferry) == [
        FieldDoc("length", "int", "", "Length in metres, from bow to stern.", "at least 1"),
        FieldDoc("color", "red | blue", "blue", ""),
        FieldDoc("owner", "str | null", "null", "Name of the owner."),
        FieldDoc("harbors", "list[str]", "['Kiel', 'Oslo']", ""),
        FieldDoc("cars", "dict[str, int]", "{}", ""),
        FieldDoc("open", "bool", "true", "Open deck."),
    ]


def test_every_field_of_every_option_has_a_doc() -> None:
    for types in GROUPS.values():
        for schema in types.values():
            names = {doc.name for doc in catalog.field_docs(schema)}
            assert names == {field.name for field in fields(schema)}


def test_summary_line_is_from_a_docstring_or_a_header_comment(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""Sail.\n\nFar."""\nraise SystemExit\n')
    (tmp_path / "a.yaml").write_text("# @package _global_\n# Boats.\n# More.\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("seed: 1\n")
    files = ["a.py", "a.yaml", "b.yaml"]
    assert [catalog.summary_line(tmp_path / file) for file in files] == ["Sail.", "Boats.", ""]


@pytest.fixture
def user_dir(tmp_path: Path) -> str:
    for name in ("sea/boats", "lake/boats", "sea/ships"):
        (tmp_path / "experiment" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "experiment" / f"{name}.yaml").touch()
    return str(tmp_path)


def test_options_include_those_in_folders_and_in_the_users_folder(user_dir: str) -> None:
    options = catalog.options("experiment", user_dir)
    assert options["sea/boats"] == Path(user_dir, "experiment/sea/boats.yaml")
    assert "demo/quickstart" in options


def test_a_bare_name_is_resolved_if_it_is_unique_among_the_folders(user_dir: str) -> None:
    names = ["docvqa", "documents/docvqa", "ships", "sea/boats"]
    assert [catalog.resolve_option("experiment", name, user_dir) for name in names] == [
        "documents/docvqa", "documents/docvqa", "sea/ships", "sea/boats",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("boats", "experiment=boats is ambiguous: choose one of lake/boats, sea/boats"),
        ("shps", "there is no experiment 'shps' (did you mean 'ships'?); valid are "),
        ("pond/boats", "there is no experiment 'pond/boats' (did you mean 'boats'?); valid are "),
    ],
)
def test_an_ambiguous_or_unknown_name_is_an_error(name: str, start: str, user_dir: str) -> None:
    with pytest.raises(ConfigError) as error:
        catalog.resolve_option("experiment", name, user_dir)
    assert str(error.value).startswith(start)


def test_bundled_experiments_have_unique_names() -> None:
    names = [option.rpartition("/")[2] for option in catalog.options("experiment")]
    assert len(names) == len(set(names))


def test_a_checkout_reads_the_folders_next_to_its_sources() -> None:
    root = Path(__file__).parents[3]
    assert resource_dir("conf").resolve() == root / "conf"
    assert resource_dir("recipes").resolve() == root / "recipes"
