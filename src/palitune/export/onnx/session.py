"""Export of modules to ONNX, and verification with ONNX Runtime."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.errors import ModelError
from palitune.export.onnx.folding import fold_transposes, save_model

TOLERANCE = 1e-3
"""Maximum difference in standard deviations of the output; two layers differ by 4e-6."""

DynamicAxes = Mapping[int, str]
"""Names of the variable sizes by dimension."""


def export_module(
    module: nn.Module,
    file: Path,
    inputs: Mapping[str, tuple[Tensor, DynamicAxes]],
    outputs: Mapping[str, DynamicAxes],
) -> None:
    """Export a module in evaluation mode.

    The module is traced, because torch.export with dynamic sizes takes forty times as long for a
    language model. Weights are stored as their products need them, so that they can be quantized.

    Args:
        module: Module to export.
        file: Output file; its folder is created.
        inputs: Example tensors and dynamic axes by input name, in the order of the module's
            arguments.
        outputs: Dynamic axes by output name.
    """
    import onnx

    file.parent.mkdir(exist_ok=True)
    axes = {name: axes for name, (_, axes) in inputs.items()} | dict(outputs)
    # Above two GB torch writes every weight to a file of its own.
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        traced = Path(folder) / file.name
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(tensor for tensor, _ in inputs.values()),
                traced,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=18,
                dynamo=False,
                do_constant_folding=False,  # would store shared weights twice
            )
        save_model(fold_transposes(onnx.load(traced)), file)


def open_session(file: Path) -> Any:
    """Open a file with ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run ONNX Runtime with inputs in the order of the module's arguments."""
    names = [node.name for node in session.get_inputs()]
    feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feed)]


def check_outputs(file: Path, actual: Tensor, expected: Tensor) -> None:
    """Raise ModelError if the output of ONNX Runtime differs from that of the module."""
    error = float((actual - expected).abs().max() / expected.std())
    if not error <= TOLERANCE:
        raise ModelError(
            f"{file}: outputs must differ from the model's by at most {TOLERANCE:g} standard "
            f"deviations, got {error:.2g}. Try another version of onnxruntime or torch."
        )
