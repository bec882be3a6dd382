"""Nested states of optimizers and random generators as JSON, with their tensors in safetensors.

Neither format can contain code, unlike a pickle, so that untrusted checkpoints are safe to load.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

_TENSOR, _TUPLE, _MAP = "!tensor", "!tuple", "!map"


def save_tree(stem: Path, tree: Any) -> None:
    """Write dictionaries, lists and tuples of tensors, numbers, strings and None.

    The files are `stem.json` and `stem.safetensors`. Raises TypeError for any other type.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_encode(tree, tensors, ""))
    save_file(tensors, stem.with_suffix(".safetensors"))
    stem.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def load_tree(stem: Path) -> Any:
    """Read a tree that `save_tree` wrote, with its tensors on the CPU."""
    tensors = load_file(stem.with_suffix(".safetensors"))
    return _decode(json.loads(stem.with_suffix(".json").read_text(encoding="utf-8")), tensors)


def _encode(tree: Any, tensors: dict[str, torch.Tensor], path: str) -> Any:
    if isinstance(tree, torch.Tensor):
        # Copy, because safetensors rejects tensors that share memory, as quantization maps do.
        tensors[path] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if isinstance(tree, dict):
        items = [[key, _encode(value, tensors, f"{path}/{key}")] for key, value in tree.items()]
        plain = all(isinstance(key, str) and not key.startswith("!") for key in tree)
        return dict(items) if plain else {_MAP: items}
    if isinstance(tree, list | tuple):
        values = [_encode(value, tensors, f"{path}/{n}") for n, value in enumerate(tree)]
        return values if isinstance(tree, list) else {_TUPLE: values}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{path} is a {type(tree).__name__}, which a checkpoint cannot store")


def _decode(encoded: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(encoded, list):
        return [_decode(value, tensors) for value in encoded]
    if not isinstance(encoded, dict):
        return encoded
    match encoded:
        case {"!tensor": tensor_path}:
            return tensors[tensor_path]
        case {"!tuple": values}:
            return tuple(_decode(value, tensors) for value in values)
        case {"!map": items}:
            return {key: _decode(value, tensors) for key, value in items}
    return {key: _decode(value, tensors) for key, value in encoded.items()}
