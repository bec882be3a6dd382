"""The documentation site builds without a warning or network, and names all that the code has."""

import re
import subprocess
import sys
from collections.abc import Iterable
from html import unescape
from pathlib import Path

import pytest
import torch

from palitune.config import catalog
from palitune.config.config_store import default_options
from palitune.config.recipes import GROUPS, RECIPE_CONFIGS
from palitune.data.registry import SOURCES
from palitune.metrics import METRICS
from palitune.models.decoder_layers import prefix_lm_mask
from palitune.tasks import TASKS

from support.browser import DESKTOP, PHONE, open_page

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "generated" not in page.parts and "_build" not in page.parts]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, "docs", str(made)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def codes(site: Path, page: str) -> set[str]:
    """The texts in code font of a reference page."""
    html = (site / "reference" / "generated" / f"{page}.html").read_text(encoding="utf-8")
    spans = re.findall(r'<code class="[^"]*">(.*?)</code>', html, re.DOTALL)
    return {re.sub(r"<[^>]+>", "", span) for span in spans}


def test_every_setting_stands_in_the_reference(site: Path) -> None:
    settings, recipes = codes(site, "settings"), codes(site, "recipes")
    for group, options in GROUPS.items():
        for schema in options.values():
            assert (
                missing(settings, (f"{group}.{d.name}" for d in catalog.field_docs(schema))) == []
            )
    for schema in RECIPE_CONFIGS.values():
        own = {doc.name for doc in catalog.field_docs(schema)} - set(default_options(schema))
        assert missing(recipes, own) == []


def test_every_metric_format_task_and_experiment_stands_in_the_reference(site: Path) -> None:
    assert missing(codes(site, "metrics"), METRICS) == []
    assert missing(codes(site, "formats"), (f"data={name}" for name in SOURCES)) == []
    experiments = (name.rpartition("/")[2] for name in catalog.options("experiment"))
    assert missing(codes(site, "experiments"), experiments) == []
    html = (site / "reference/generated/tasks.html").read_text(encoding="utf-8")
    assert [name for name in TASKS if f">{name}<a" not in html] == []


def missing(found: set[str], names: Iterable[str]) -> list[str]:
    return sorted(set(names) - found)


def test_no_page_needs_a_network(site: Path) -> None:
    loaded = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]+(?:src|href)="(https?:[^"]+)"')
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    assert [m[1] for page in pages for m in loaded.finditer(page.read_text("utf-8"))] == []


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_pages_fit_the_window(site: Path, window: tuple[int, int]) -> None:
    with open_page(site / "index.html", window) as visit:
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            for name in ("index", "troubleshooting", "reference/generated/settings", "read/report"):
                visit.page.goto((site / f"{name}.html").as_uri())
                assert (name, visit.overflow()) == (name, 0)
                assert visit.broken_images() == []
        assert visit.errors == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    targets += [f"{name}.md" for name in re.findall(r"\{doc\}`([^`]+)`", text)]
    assert [t for t in targets if "generated/" not in t and not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_are_headings(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", text)
    assert [(f, a) for f, a in links if a not in anchors(page.parent / f if f else page)] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}


def test_quoted_errors_are_sentences_of_the_code(site: Path) -> None:
    html = (site / "reference/generated/error_sentences.html").read_text(encoding="utf-8")
    sentences = [unescape(s) for s in re.findall(r"<li><p>(.*?)</p></li>", html, re.DOTALL)]
    assert len(sentences) > 400
    patterns = [
        ".+?".join(map(re.escape, sentence.split("…")))
        for sentence in sentences
        if len(sentence.replace("…", "")) > 15
    ]
    known = re.compile("|".join(patterns))
    quoted = [line for page in PAGES for line in error_lines(page)]
    assert len(quoted) >= 6
    assert [line for line in quoted if not known.search(line)] == []


def error_lines(page: Path) -> list[str]:
    """The lines of a page's text blocks that the program prints as errors."""
    blocks = re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    start = re.compile(r"palitune: |\S+:\d+: |\S+\.json, task ")
    return [line for block in blocks for line in block.splitlines() if start.match(line)]


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (page, code)
        for page in PAGES
        for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        if page.name not in ("extending.md", "label_loop.md")  # they have tests of their own
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_a_python_block_runs(page: Path, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, str(page), "exec"), {})
    assert capsys.readouterr().out


def test_the_drawn_mask_is_that_of_the_code() -> None:
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 0]])
    mask = prefix_lm_mask(types, torch.tensor([[1] * 8 + [0]]))[0, 0]
    expected = [["x" if attended else "." for attended in row] for row in mask[:8]]
    page = (ROOT / "docs/background/prefix_lm.md").read_text(encoding="utf-8")
    for text in (page, prefix_lm_mask.__doc__ or ""):
        drawn = [re.findall(r"(?<=\s)[x.](?=\s)", f"{line} ") for line in text.splitlines()]
        assert [cells for cells in drawn if len(cells) == 9][:8] == expected


def test_the_list_for_language_models_has_every_page(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(([^)]+)\)", text))
    own = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.parent != ROOT}
    assert own - {"index.md"} == {name for name in listed if "generated" not in name}
    assert [name for name in listed if "generated" in name and not (site / name).is_file()] == []


def test_troubleshooting_has_thirty_symptoms() -> None:
    symptoms = re.findall(r"^\*\*(.+?)\*\*", (ROOT / "docs/troubleshooting.md").read_text(), re.M)
    assert len(symptoms) == len(set(symptoms)) >= 30
