"""The graphs have the inputs that transformers.js feeds, and each weight once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from palitune.export.onnx import folding, graphs, session
from palitune.export.onnx.files import DECODER
from palitune.models.adapters.merging import load_with_transformers


@pytest.fixture(scope="module", params=["paligemma", "paligemma2"])
def folder(
    request: pytest.FixtureRequest,
    tiny: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    made = tmp_path_factory.mktemp("graphs") / "onnx"
    model = load_with_transformers(tiny(request.param), attn_implementation="eager")
    graphs.export_graphs(model, made)
    return made


def test_inputs_and_outputs_have_the_names_of_transformers_js(folder: Path) -> None:
    names = {}
    for file in folder.glob("*.onnx"):
        opened = session.open_session(file)
        inputs, outputs = opened.get_inputs(), opened.get_outputs()
        names[file.stem] = [n.name for n in inputs], [n.name for n in outputs]
    states = [f"{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")]
    assert names == {
        "vision_encoder": (["pixel_values"], ["image_features"]),
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "decoder_model_merged": (
            ["inputs_embeds", "attention_mask", "position_ids"]
            + [f"past_key_values.{state}" for state in states],
            ["logits", *(f"present.{state}" for state in states)],
        ),
    }


def test_every_matrix_is_a_constant_of_a_product_and_stored_once(folder: Path) -> None:
    for file in folder.glob("*.onnx"):
        graph = onnx.load(file).graph
        weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        matrices = [array for array in weights.values() if array.ndim == 2 and array.size > 500]
        distinct = {np.sort(array, axis=None).tobytes() for array in matrices}
        assert len(distinct) == len(matrices)
        assert not any(n.op_type == "Transpose" and n.input[0] in weights for n in graph.node)
        products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
        constant = [node for node in products if node.input[1] in weights]
        if file.stem == DECODER:
            assert len(constant) == 2 * 7 + 1  # of two layers, and the vocabulary


def test_weights_beyond_the_limit_lie_beside_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folder / "embed_tokens.onnx", tmp_path / "embed_tokens.onnx"
    monkeypatch.setattr(folding, "MAX_FILE_BYTES", 1000)
    folding.save_model(onnx.load(source), target)
    assert folding.external_data_file(target).name == "embed_tokens.onnx_data"
    assert folding.external_data_file(target).stat().st_size > target.stat().st_size
    ids = {"input_ids": np.array([[1, 2, 3]])}
    pair = [session.open_session(file).run(None, ids)[0] for file in (source, target)]
    np.testing.assert_array_equal(*pair)
