"""Base models and what is trained on them.

The names that need torch are imported when they are called, so that reading a configuration and
`--help` stay fast.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.models.adapters import ADAPTERS, Adapter
from palitune.models.checkpoints import MODELS, Dtype, Model, ModelError, Network
from palitune.models.combining import Combination
from palitune.models.quantizing import Quantize

if TYPE_CHECKING:
    from palitune.models.swapping import Swapping

__all__ = [
    "ADAPTERS",
    "MODELS",
    "Adapter",
    "Model",
    "ModelError",
    "add_adapter",
    "export",
    "load",
    "load_adapter",
    "load_combined",
    "load_processor",
    "load_trainable",
    "load_trained",
    "resolved_targets",
    "save_adapter",
    "swappable",
    "trained_bits",
    "write_onnx",
]

# They report optional kernels that are not installed, and with int8 every layer of every step.
for _library in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_library).setLevel(logging.ERROR)


def load_processor(model: Model) -> Any:
    """Read tokenizer and image processor of a base model, checked."""
    from palitune.models import loading

    return loading.load_processor(model)


def load(model: Model, adapter: Adapter | None = None) -> Network:
    """Read a base model, quantized where `adapter` is qlora; the adapter is not put on."""
    from palitune.models import loading

    return loading.load(model, adapter)


def load_trainable(model: Model, adapter: Adapter) -> Network:
    """Read a base model and put the adapter on, to be trained: new, or saved in its `path`."""
    from palitune.models import loading

    return loading.load_trainable(model, adapter)


def load_trained(model: Model, adapter: Adapter) -> Network:
    """Read a base model with the adapter saved in its `path`; without a path, alone."""
    from palitune.models import loading

    return loading.load_trained(model, adapter)


def swappable(model: Model, adapters: Sequence[Adapter]) -> "Swapping":
    """Check that the adapters are there, to be loaded one after another on one base model."""
    from palitune.models.swapping import Swapping

    return Swapping(model, adapters)


def load_combined(model: Model, combination: Combination, *, quantized: bool) -> Network:
    """Read a base model, in float32 or quantized as in training, and put adapters on as one."""
    from palitune.models import loading

    return loading.load_combined(model, combination, quantized=quantized)


def export(
    network: Network,
    processor: Any,
    model: Model,
    folder: Path,
    *,
    dtype: Dtype,
    quantize: Quantize,
) -> None:
    """Merge the adapter of a network, which is used up, and write what plain transformers reads."""
    from palitune.models import merging

    stored = merging.stored_dtype(model, dtype)
    merging.export(network, processor, folder, stored, quantize)


def write_onnx(folder: Path) -> Path:
    """Write an exported folder's model as `onnx/vision.onnx` and `onnx/language.onnx`, checked."""
    from palitune.models import merging, onnx_language, onnx_vision

    made = folder / "onnx"
    model = merging.load_plain(folder, attn_implementation="eager").float()
    onnx_vision.write_vision(model, made / "vision.onnx")
    onnx_language.write_language(model, made / "language.onnx")
    return made


def add_adapter(network: Network, adapter: Adapter) -> Network:
    """Make the adapter's targets trainable and nothing else; use the network that is returned."""
    return adapter.attach(network)


def resolved_targets(network: Network, adapter: Adapter) -> list[str]:
    """Name the modules (adapter=full: the parameters) that the adapter trains."""
    return adapter.hits(network)


def save_adapter(network: Network, folder: str | Path, model: Model) -> None:
    """Write what was trained on `model`, with a record of its base, into a folder.

    Of several processes the first one writes, and the others wait for it.
    """
    from palitune import processes
    from palitune.models import adapter_files

    processes.by_first(lambda: adapter_files.save_adapter(network, folder, model))


def trained_bits(folder: str | Path) -> int | None:
    """Give the bits per weight that a saved adapter's base was quantized to; None: it was not."""
    from palitune.models import adapter_files

    return adapter_files.Record.read(folder).bits


def load_adapter(network: Network, folder: str | Path, *, trainable: bool = False) -> Network:
    """Put a saved adapter on the base it was trained on; refuse one that does not fit in full."""
    from palitune.models import adapter_files

    return adapter_files.load_adapter(network, folder, trainable=trainable)
