"""Quantized files have the names that transformers.js asks for, whatever their size."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from palitune.export.onnx import folding, graphs, session
from palitune.export.onnx.export import FOLDER, write_settings
from palitune.export.onnx.files import EMBEDDINGS, OnnxQuantization
from palitune.export.onnx.quantization import file_name, quantize_graphs
from palitune.models.adapters.merging import load_with_transformers


@pytest.fixture(scope="module")
def exported(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(tiny("paligemma"), made)
    graphs.export_graphs(load_with_transformers(made, attn_implementation="eager"), made / FOLDER)
    return made


def write(
    source: Path, folder: Path, kind: OnnxQuantization, limit: int, patch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Write a variant whose files have at most `limit` bytes of weights; return its dtypes."""
    patch.setattr(folding, "MAX_FILE_BYTES", limit)
    shutil.copytree(source, folder)
    for file in (folder / FOLDER).iterdir():
        folding.save_model(onnx.load(file), file)
    dtypes = quantize_graphs(folder / FOLDER, kind)
    write_settings(folder, dtypes)
    return dtypes


@pytest.mark.parametrize("kind", OnnxQuantization)
def test_weights_of_large_models_lie_where_transformers_js_looks(
    kind: OnnxQuantization, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write(exported, tmp_path / "small", kind, 10**9, monkeypatch)
    large = write(exported, tmp_path / "large", kind, 1000, monkeypatch)
    assert large == small
    graph_files = {file_name(graph, dtype) for graph, dtype in large.items()}
    data_files = {f"{name}_data" for name in graph_files}
    found = {file.name for file in (tmp_path / "large" / FOLDER).iterdir()}
    assert found == graph_files | data_files
    settings = json.loads((tmp_path / "large/config.json").read_text())["transformers.js_config"]
    assert settings["use_external_data_format"] == dict.fromkeys(large, 1)

    ids = {"input_ids": np.array([[1, 2, 3]])}
    file = file_name(EMBEDDINGS, large[EMBEDDINGS])
    rows = [
        session.open_session(tmp_path / size / FOLDER / file).run(None, ids)[0]
        for size in ("small", "large")
    ]
    np.testing.assert_array_equal(*rows)


def test_weights_that_fit_after_quantization_are_in_one_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The table of embeddings has 377 kB in float32 and 94 kB in 8 bits.
    dtypes = write(exported, tmp_path / "m", OnnxQuantization.int8, 250_000, monkeypatch)
    found = {file.name for file in (tmp_path / "m" / FOLDER).iterdir()}
    assert found == {file_name(graph, dtype) for graph, dtype in dtypes.items()}
