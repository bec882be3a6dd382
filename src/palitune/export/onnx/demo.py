"""A static page that runs an exported model in a browser, with transformers.js beside it."""

import html
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from palitune.errors import ModelError

FOLDER = "demo"
TRANSFORMERS_JS = "4.3.2"
"""Version of transformers.js that npm installs."""
_PAGE = Path(__file__).parents[1] / "assets" / "demo.html"
_FILES = {
    "@huggingface/transformers/dist/transformers.web.min.js": "",
    "@huggingface/transformers/LICENSE": "LICENSE.transformers.js",
    "onnxruntime-web/dist/ort.webgpu.bundle.min.mjs": "",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.mjs": "",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm": "",
}
"""Files of npm's packages, with the names that they get; empty: their own."""


def write_demo(folder: Path, title: str, prompt: str, max_new_tokens: int) -> Path:
    """Write `demo/` beside the exported model and return its page.

    Args:
        folder: Folder that contains the exported model as `model`.
        title: Heading of the page.
        prompt: Prompt that the page starts with.
        max_new_tokens: Maximum number of tokens to generate.

    Raises:
        ModelError: npm cannot install transformers.js.
    """
    demo = folder / FOLDER
    vendor = demo / "vendor"
    vendor.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _install(Path(scratch))
        modules = Path(scratch) / "node_modules"
        for source, name in _FILES.items():
            shutil.copyfile(modules / source, vendor / (name or Path(source).name))
        shutil.copytree(
            modules / "onnxruntime-common/dist/esm",
            vendor / "onnxruntime-common",
            ignore=shutil.ignore_patterns("*.map", "*.d.ts"),
            dirs_exist_ok=True,
        )
    page = _PAGE.read_text(encoding="utf-8")
    page = page.replace("@TITLE@", html.escape(title)).replace("@PROMPT@", html.escape(prompt))
    page = page.replace("@NEW_TOKENS@", json.dumps(max_new_tokens))
    (demo / "index.html").write_text(page, encoding="utf-8")
    return demo / "index.html"


def _install(folder: Path) -> None:
    """Install transformers.js without its install scripts, which download."""
    command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit"]
    command += ["--no-fund", "--silent", f"@huggingface/transformers@{TRANSFORMERS_JS}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip()[:200]
        raise ModelError(
            f"demo=true requires npm with transformers.js {TRANSFORMERS_JS} ({detail}). Install "
            "Node.js, or remove demo=true."
        ) from error
