"""The page has what it loads beside it; without npm there is one sentence."""

import re
import subprocess
from pathlib import Path

import pytest

from palitune.errors import ModelError
from palitune.export.config import ExportConfig
from palitune.export.onnx import demo


def install_stand_in(folder: Path) -> None:
    """Write the files that npm would install."""
    modules = folder / "node_modules"
    for file in (*demo._FILES, "onnxruntime-common/dist/esm/index.js"):
        (modules / file).parent.mkdir(parents=True, exist_ok=True)
        (modules / file).write_text(file)


def test_everything_that_the_page_loads_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_install", install_stand_in)
    page = demo.write_demo(tmp_path, "boats & <buoys>", 'detect "boat"', 7)
    text = page.read_text(encoding="utf-8")
    assert "<h1>boats &amp; &lt;buoys&gt;</h1>" in text
    assert 'value="detect &quot;boat&quot;"' in text
    assert "MAX_NEW_TOKENS = 7;" in text
    assert 'embed_tokens: "wasm"' in text  # may be float16, which not every card computes
    loaded = re.findall(r'"(\./vendor/[\w./-]+\.m?js)"', text)
    assert len(loaded) == 3
    assert all((page.parent / file).is_file() for file in loaded)
    assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https:" not in text


def test_npm_that_fails_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "npm", stderr="no network")

    monkeypatch.setattr(demo.subprocess, "run", fail)
    with pytest.raises(ModelError, match=r"demo=true requires npm .* \(no network\)\. Install"):
        demo.write_demo(tmp_path, "boats", "ocr", 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"demo": True}, "demo=true requires onnx=true"),
        ({"demo": True, "onnx": True}, "demo=true requires npm"),
    ],
)
def test_a_demo_needs_onnx_and_npm(
    settings: dict[str, bool], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ValueError, match=message):
        ExportConfig(**settings)
