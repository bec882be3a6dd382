"""Fixtures that several test files share: tiny random models, and drawn examples."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "offline")

import hypothesis
import pytest
from PIL import Image, ImageDraw

from palitune.records import Example

# The first call of a test may import a library, and CI machines are busy: no deadline. In CI the
# cases are the same on every run, so that a change is judged by itself; elsewhere they are new.
hypothesis.settings.register_profile("palitune", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("palitune")


CUDA_MARKER = "cuda"
"""Tests with this marker need a GPU; all others compute on the CPU, whatever the machine has."""


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs before torch is imported, or require one if the tests marked `cuda` are run."""
    if config.option.markexpr != CUDA_MARKER:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if not torch.cuda.is_available():
        raise pytest.UsageError("pytest -m cuda requires a GPU that torch can use.")


@pytest.fixture(scope="session", autouse=True)
def _temporary_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["PALITUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny("paligemma2")`: the folder of a random model of that family with its processor."""
    from support.tiny_models import build_tiny

    return cache(lambda family: build_tiny(tmp_path_factory.mktemp(family), family))


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Five examples with prompts and suffixes of different lengths, one with two targets."""
    folder = tmp_path_factory.mktemp("images")
    texts = [
        ("ocr", ("73",)),
        ("detect boat ; buoy", ("<loc0000><loc0100><loc0500><loc0700> boat",)),
        ("answer en how many boats are there?", ("two", "2")),
        ("caption en", ("a red boat beside two yellow buoys",)),
        (
            "detect boat",
            (
                "<loc0010><loc0100><loc0500><loc0700> boat ; "
                "<loc0001><loc0002><loc0003><loc0004> boat",
            ),
        ),
    ]
    made = []
    for number, (prefix, suffixes) in enumerate(texts):
        image = Image.new("RGB", (160 + 20 * number, 120), (250, 240, 10 * number))
        ImageDraw.Draw(image).rectangle((10, 20, 60 + 10 * number, 90), fill=(20, 60 * number, 90))
        path = folder / f"{number}.png"
        image.save(path)
        made.append(
            Example(
                id=str(number),
                images=(str(path),),
                size=image.size,
                prefix=prefix,
                suffixes=suffixes,
                reference=suffixes,
                location=f"drawn:{number}",
            )
        )
    return made


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the built wheel is installed into."""
    folder = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[1]
    building = ["build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    _run_module(*building)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    _run_module(
        "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)
    )
    return site


def _run_module(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
