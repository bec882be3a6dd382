"""Reader of PEFT's adapter_config.json, which another person may have written.

PEFT itself accepts any field: names of modules as regular expressions, initializations that compute
for hours or change the base, and classes to import. An adapter that this program saved needs none
of them: it lists its modules by name, and its weights replace the initial ones.
"""

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.codec.parsing import parse_json
from palitune.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE = "adapter_config.json"
_MAX_BYTES = 4_000_000
_MAX_RANK = 1 << 16
_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*")
_IGNORED = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
    "task_type",
}  # fmt: skip
"""Fields about the origin of an adapter; they do not change its layers."""
_RANDOM_INITIALIZATIONS = (True, False, "gaussian", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is; saved weights replace theirs."""
_USED = {
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules", "rank_pattern",
    "alpha_pattern",
}  # fmt: skip


def read_lora_config(
    folder: Path, weights: "dict[str, Tensor]", modules: list[str] | None = None
) -> Any:
    """Read the configuration of a saved LoRA and compare it with its weights.

    Args:
        folder: Folder of the adapter.
        weights: Tensors of its file by name.
        modules: Adapted modules, instead of those that the configuration names.

    Returns:
        A `peft.LoraConfig` whose initialization does not compute.

    Raises:
        ModelError: A field is unknown, unsupported, out of range, or contradicts the weights.
    """
    from peft import LoraConfig

    file = folder / CONFIG_FILE
    settings = read_adapter_config(file)
    supported = {field.name for field in fields(LoraConfig)}
    defaults = LoraConfig().to_dict() | {"init_lora_weights": True}
    for name, value in settings.items():
        if name not in supported:
            raise ModelError(f"{file}: {name!r} is not a field of a LoRA. Remove it.")
        if name == "init_lora_weights" and value in _RANDOM_INITIALIZATIONS:
            continue
        if name not in _IGNORED | _USED and value != defaults.get(name):
            raise ModelError(
                f"{file}: {name} must be {defaults.get(name)!r}, got {_short(value)}. Save the "
                "adapter without it."
            )
    config = {name: settings.get(name, defaults[name]) for name in _USED}
    if modules is not None:
        config["target_modules"] = modules
    _check_values(config, file)
    _check_ranks(config, weights, file)
    return LoraConfig(**config)


def read_adapter_config(file: Path) -> dict[str, Any]:
    """Return the fields of adapter_config.json. Raises ModelError if it is no JSON object."""
    try:
        if not file.is_file() or file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"not a file of at most {_MAX_BYTES} bytes")
        settings = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error}). Copy the whole folder.") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{file} must be a JSON object, got {_short(settings)}. Copy it again.")
    return settings


def _check_values(config: dict[str, Any], file: Path) -> None:
    """Raise ModelError unless every field has its type and range."""
    modules = config["target_modules"]
    are_names = isinstance(modules, list) and bool(modules) and all(map(_is_name, modules))
    rules = {
        "target_modules": (are_names, "a list of module names"),
        "r": (_is_rank(config["r"]), f"an integer from 1 to {_MAX_RANK}"),
        "lora_alpha": (_is_scale(config["lora_alpha"]), "a positive number"),
        "lora_dropout": (
            _is_number(config["lora_dropout"]) and 0 <= config["lora_dropout"] < 1,
            "a number from 0 to below 1",
        ),
        "use_rslora": (type(config["use_rslora"]) is bool, "true or false"),
        "use_dora": (type(config["use_dora"]) is bool, "true or false"),
        "rank_pattern": (
            _is_pattern(config["rank_pattern"], _is_rank),
            "ranks by the name of a module",
        ),
        "alpha_pattern": (
            _is_pattern(config["alpha_pattern"], _is_scale),
            "numbers by the name of a module",
        ),
    }
    for name, (is_valid, expected) in rules.items():
        if not is_valid:
            raise ModelError(
                f"{file}: {name} must be {expected}, got {_short(config[name])}. Save the adapter "
                "again."
            )


def _check_ranks(config: dict[str, Any], weights: "dict[str, Tensor]", file: Path) -> None:
    """Raise ModelError if a rank is not that of the weights, before layers are allocated."""
    ranks = {weight.shape[0] for name, weight in weights.items() if "lora_A" in name}
    ranks |= {weight.shape[0] for name, weight in weights.items() if "lora_embedding_A" in name}
    configured = {config["r"], *config["rank_pattern"].values()}
    if not ranks <= configured or max(configured) > max(ranks, default=0):
        raise ModelError(
            f"{file}: r must be the rank of the weights, {_short(sorted(ranks))}, got "
            f"{_short(sorted(configured))}. Copy the whole folder again."
        )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _MODULE_NAME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9 and math.isfinite(value)


def _is_scale(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_RANK


def _is_pattern(value: Any, is_valid: Any) -> bool:
    return (
        isinstance(value, dict) and all(map(_is_name, value)) and all(map(is_valid, value.values()))
    )


def _short(value: Any) -> str:
    import reprlib

    return reprlib.repr(value)
