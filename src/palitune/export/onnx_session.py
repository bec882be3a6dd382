"""Modules as ONNX files, and whether ONNX Runtime computes what they compute."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palitune.errors import ModelError

TOLERANCE = 1e-3
"""Largest difference, in standard deviations of what is computed; 4e-6 on two layers."""

DynamicAxes = Mapping[int, str]
"""The sizes that may differ from call to call, by dimension."""


def export_module(
    module: nn.Module,
    file: Path,
    inputs: Mapping[str, tuple[Tensor, DynamicAxes]],
    outputs: Mapping[str, DynamicAxes],
) -> Any:
    """Write a module in evaluation mode, and return ONNX Runtime's session of the file.

    It is traced on the `inputs`: torch.export, on sizes that it does not know, takes forty times as
    long for a language model. Over two GB, the most that such a file can hold, every weight is a
    file beside it.
    """
    import onnxruntime

    file.parent.mkdir(exist_ok=True)
    axes = {name: axes for name, (_, axes) in inputs.items()} | dict(outputs)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(tensor for tensor, _ in inputs.values()),
            file,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
            do_constant_folding=False,  # a matrix that two layers share would be stored twice
        )
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def run_session(session: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Have ONNX Runtime compute, the inputs being in the order of the module's."""
    names = [one.name for one in session.get_inputs()]
    fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
    return [torch.from_numpy(found) for found in session.run(None, fed)]


def check_outputs(file: Path, actual: Tensor, expected: Tensor) -> None:
    """Raise ModelError where ONNX Runtime has computed something else than the module."""
    off = float((actual - expected).abs().max() / expected.std())
    if not off <= TOLERANCE:
        raise ModelError(
            f"{file} gives numbers up to {off:.2g} standard deviations from the model's; do not "
            "use it, and try another version of onnxruntime or torch"
        )
