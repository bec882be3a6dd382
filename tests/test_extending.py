"""The steps of docs/extending.md work, followed literally in a copy of the repository."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FENCE = r"\n\n```\w+\n(.*?)```"
STEP = re.compile(
    r"^(?:[^\n`]*)(?:Create `([^`]+)`|In `([^`]+)`, (above|below) `([^`\n]+)`)[^\n]*" + FENCE,
    re.MULTILINE | re.DOTALL,
)


def follow_steps(folder: Path) -> int:
    """Apply every step of the page in a checkout and return their number."""
    steps = STEP.findall(PAGE)
    for new_file, file, side, line, text in steps:
        if new_file:
            assert not (folder / new_file).exists(), f"{new_file} exists"
            (folder / new_file).write_text(text)
            continue
        before = (folder / file).read_text()
        assert before.count(f"{line}\n") == 1, f"{file} must hold this line once: {line}"
        added = f"{text}{line}\n" if side == "above" else f"{line}\n{text}"
        (folder / file).write_text(before.replace(f"{line}\n", added))
    return len(steps)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("src", "conf", "recipes"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "images")
        )
    shutil.copytree(ROOT / "src/palitune/data/images", folder / "src/palitune/data/images")
    shutil.copytree(ROOT / "src/palitune/report/images", folder / "src/palitune/report/images")
    assert follow_steps(folder) == 15
    (folder / "claims").mkdir()
    Image.new("RGB", (60, 40), "red").save(folder / "claims" / "red.png")
    lines = ["image,question,answer", "red.png,is it red?,yes", "red.png,is it blue?,no"]
    (folder / "claims" / "train.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(checkout: Path, command: str) -> str:
    name, *arguments = shlex.split(command)
    assert name == "palitune"
    done = subprocess.run(
        [sys.executable, "-m", "palitune", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_use_what_its_steps_added(checkout: Path) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    listing, prompts, evaluation = block.splitlines()
    assert "yes or no: is there a boat?" in run(checkout, listing)
    assert "yes or no: is it red? -> yes" in run(checkout, prompts)
    assert "first_letter" in run(checkout, f"{evaluation} evaluation.num_workers=0")
    assert (checkout / "outputs/claims/metrics.json").is_file()
