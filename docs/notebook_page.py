"""A page of the site from a notebook with its outputs."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_page(notebook: Path, page: Path) -> None:
    """Write the cells and stored outputs of a notebook as Markdown, its images beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    parts = [part for number, cell in enumerate(cells) for part in _parts(cell, number, page)]
    text = "\n\n".join(parts) + "\n"
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def _parts(cell: dict[str, Any], number: int, page: Path) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source.replace("](../", "](../../")  # the page lies one folder deeper
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        if text := "".join(output.get("text", "")):
            yield f"```text\n{text.rstrip()}\n```"
        elif image := output.get("data", {}).get("image/png"):
            file = page.with_name(f"{page.stem}-{number}.png")
            file.write_bytes(base64.b64decode("".join(image)))
            yield f"![Output of the cell above]({file.name})"
