"""The notebook runs from its first to its last cell, shortened where it says so."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "quickstart.ipynb"
SHORT = [
    "training.max_steps=2", "training.global_batch_size=2", "training.micro_batch_size=2",
    "evaluation.max_samples=4", "evaluation.num_workers=0", "training.num_workers=0",
]  # fmt: skip


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_all_cells_run(notebook: Any, tmp_path: Path) -> None:
    [settings] = [cell for cell in notebook.cells if "EXTRA = []" in cell.source]
    settings.source = settings.source.replace("EXTRA = []", f"EXTRA = {SHORT}")
    for cell in notebook.cells:
        cell.outputs = []
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert (tmp_path / "outputs/notebook/report.html").is_file()
    printed = "".join(text_of(cell) for cell in notebook.cells)
    assert "ocr/exact_match" in printed
    assert "image/png" in notebook.cells[-2].outputs[-1].data


def test_the_outputs_of_a_whole_run_are_stored(notebook: Any) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    printed = "".join(text_of(cell) for cell in code)
    assert "error" not in {output.output_type for cell in code for output in cell.outputs}
    assert "/home/" not in printed


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))
