"""Constant weights as their products need them, and files of any size."""

from collections import Counter
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 1_900_000_000
"""Largest model in one file; an ONNX file may have 2 GB. The weights of a larger one are stored
beside it, in `NAME.onnx_data`, where transformers.js looks for them."""


def fold_transposes(model: Any) -> Any:
    """Replace each transposed weight by the transposed constant; return the same model.

    A traced linear layer multiplies by `Transpose(weight)`. ONNX Runtime quantizes products with a
    constant only. A weight that is also used as it is stays as it is, so that each is stored once.
    """
    from onnx import numpy_helper

    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    transposes = [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]
    only_transposed = Counter(node.input[0] for node in transposes)
    folded: dict[str, str] = {}
    for node in transposes:
        source = node.input[0]
        if len(weights[source].dims) != 2 or only_transposed[source] != uses[source]:
            continue
        if source not in folded:
            transposed = numpy_helper.to_array(weights[source]).T.copy()
            graph.initializer.append(numpy_helper.from_array(transposed, node.output[0]))
            folded[source] = node.output[0]
        for other in graph.node:
            for index, name in enumerate(other.input):
                if name == node.output[0]:
                    other.input[index] = folded[source]
        graph.node.remove(node)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in folded:
            del graph.initializer[index]
    return model


def save_model(model: Any, file: Path) -> None:
    """Write a model, with its weights beside it if they do not fit in one file."""
    import onnx

    for old in (file, external_data_file(file)):
        old.unlink(missing_ok=True)
    is_large = sum(len(weight.raw_data) for weight in model.graph.initializer) > MAX_FILE_BYTES
    location = external_data_file(file).name if is_large else None
    onnx.save_model(model, file, save_as_external_data=is_large, location=location)


def external_data_file(file: Path) -> Path:
    """Return the file of the weights of a large model."""
    return file.with_name(f"{file.name}_data")
