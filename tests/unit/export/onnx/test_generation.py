"""ONNX Runtime generates the same tokens as the model, for prompts of any length."""

from pathlib import Path

import pytest

from palitune.export.config import ExportConfig
from palitune.export.greedy_outputs import greedy_outputs
from palitune.export.onnx.export import FOLDER, export_onnx
from palitune.export.onnx.files import OnnxQuantization
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example

from support.tiny_models import build_tiny

NUM_TOKENS = 8


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_greedy_tokens_are_those_of_palitune(
    family: str, examples: list[Example], tmp_path: Path
) -> None:
    # The window is shorter than the prompts, as at 896 pixels.
    build_tiny(tmp_path, family, sliding_window=32)
    model = Local(path=str(tmp_path), final_logit_softcapping=family == "paligemma2")
    processor = load_processor(model)
    outputs = greedy_outputs(load(model), processor, examples, NUM_TOKENS)
    settings = ExportConfig(onnx=True, max_new_tokens=NUM_TOKENS)
    report = export_onnx(tmp_path, processor, examples, outputs, settings)
    assert report.is_identical
    assert report.total.total() == len(examples)


@pytest.mark.parametrize(
    ("quantization", "suffix", "share"),
    [
        (OnnxQuantization.int8, "_int8", 0.45),
        (OnnxQuantization.int8_blocks, "_quantized", 0.55),
        (OnnxQuantization.int4, "_q4", 0.5),
    ],
)
def test_quantized_files_are_smaller_and_answer_in_the_same_form(
    quantization: OnnxQuantization,
    suffix: str,
    share: float,
    examples: list[Example],
    tmp_path: Path,
) -> None:
    build_tiny(tmp_path, "paligemma")
    model = Local(path=str(tmp_path))
    processor = load_processor(model)
    outputs = greedy_outputs(load(model), processor, examples[:2], NUM_TOKENS)
    plain, small = (
        export_onnx(
            tmp_path,
            processor,
            examples[:2],
            outputs,
            ExportConfig(onnx=True, onnx_quantize=kind, max_new_tokens=NUM_TOKENS),
        )
        for kind in (OnnxQuantization.none, quantization)
    )
    assert small.num_bytes < share * plain.num_bytes
    names = {file.name for file in (tmp_path / FOLDER).iterdir()}
    assert f"decoder_model_merged{suffix}.onnx" in names
    assert "decoder_model_merged.onnx" not in names
