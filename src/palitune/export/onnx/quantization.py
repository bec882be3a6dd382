"""Quantized ONNX files by ONNX Runtime's own quantizers, named as transformers.js expects."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from palitune.export.onnx.files import DECODER, EMBEDDINGS, VISION, OnnxQuantization
from palitune.export.onnx.folding import external_data_file, save_model

BLOCK_SIZE = 32
"""Weights that share a scale."""


@dataclass(frozen=True)
class _Variant:
    """A quantizer with the names that transformers.js has for its result."""

    dtype: str
    suffix: str
    write: Callable[[Path, Path], None]


def quantize_graphs(folder: Path, quantization: OnnxQuantization) -> dict[str, str]:
    """Replace the float32 files of a folder by quantized ones.

    Args:
        folder: Folder of the three graphs.
        quantization: Storage of the weights.

    Returns:
        The dtype of each graph by its name, as transformers.js takes it.
    """
    dtypes = {}
    for name in (VISION, EMBEDDINGS, DECODER):
        variant = _VARIANTS[quantization].get(name)
        dtypes[name] = variant.dtype if variant else "fp32"
        if variant:
            file = folder / f"{name}.onnx"
            variant.write(file, folder / f"{name}{variant.suffix}.onnx")
            for old in (file, external_data_file(file)):
                old.unlink(missing_ok=True)
    return dtypes


def file_name(graph: str, dtype: str) -> str:
    """Return the file of a graph with a dtype of transformers.js."""
    suffixes = {each.dtype: each.suffix for each in (_INT8, _INT8_BLOCKS, _INT4_BLOCKS, _FP16)}
    return f"{graph}{suffixes.get(dtype, '')}.onnx"


def _write_int8(file: Path, target: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    is_large = external_data_file(file).exists()
    _without_remarks()
    # The quantizer names the file of the weights as transformers.js does not.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        written = Path(folder) / target.name
        quantize_dynamic(
            file, written, weight_type=QuantType.QInt8, use_external_data_format=is_large
        )
        save_model(onnx.load(written), target)


def _write_blocks(bits: int) -> Callable[[Path, Path], None]:
    def write(file: Path, target: Path) -> None:
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        _without_remarks()
        quantizer = MatMulNBitsQuantizer(
            onnx.load(file), bits=bits, block_size=BLOCK_SIZE, is_symmetric=True
        )
        quantizer.process()
        save_model(quantizer.model.model, target)

    return write


def _write_half(file: Path, target: Path) -> None:
    """Store the table of embeddings in float16; they are returned in float32.

    One scale for the whole table changes boxes, and ONNX Runtime has no blocks of 8 bits for it.
    """
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    [gather] = [node for node in graph.node if node.op_type == "Gather"]
    [table] = [weight for weight in graph.initializer if weight.name == gather.input[0]]
    half = numpy_helper.to_array(table).astype(np.float16)
    table.CopyFrom(numpy_helper.from_array(half, table.name))
    position = list(graph.node).index(gather)
    output, gather.output[0] = gather.output[0], f"{gather.output[0]}_half"
    cast = helper.make_node("Cast", [gather.output[0]], [output], to=TensorProto.FLOAT)
    graph.node.insert(position + 1, cast)
    save_model(model, target)


def _without_remarks() -> None:
    """Silence the advice on preprocessing, which folding has done."""
    logging.getLogger("onnxruntime.quantization").setLevel(logging.ERROR)
    logging.getLogger("root").addFilter(lambda record: "pre-processing" not in record.getMessage())


_INT8 = _Variant("int8", "_int8", _write_int8)
_INT8_BLOCKS = _Variant("q8", "_quantized", _write_blocks(8))
_INT4_BLOCKS = _Variant("q4", "_q4", _write_blocks(4))
_FP16 = _Variant("fp16", "_fp16", _write_half)
_VARIANTS: dict[OnnxQuantization, dict[str, _Variant]] = {
    OnnxQuantization.none: {},
    OnnxQuantization.int8: {
        VISION: _INT8, EMBEDDINGS: _INT8, DECODER: _INT8
    },
    OnnxQuantization.int8_blocks: {
        VISION: _INT8_BLOCKS, EMBEDDINGS: _FP16, DECODER: _INT8_BLOCKS
    },
    OnnxQuantization.int4: {
        VISION: _INT8_BLOCKS, EMBEDDINGS: _FP16, DECODER: _INT4_BLOCKS
    },
}  # fmt: skip
