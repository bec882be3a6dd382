"""Saving and loading of trained adapters.

An adapter folder has PEFT's adapter_config.json and adapter_model.safetensors (for adapter=full:
trained.safetensors), and palitune.json, which identifies the base model and is written last.
Tensors have the names of the released checkpoints; those of earlier adapters are renamed.
"""

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palitune import __version__
from palitune.codec.parsing import parse_json
from palitune.distributed import collectives
from palitune.errors import ModelError
from palitune.models.adapters.config import Full, module_group
from palitune.models.adapters.peft_layers import (
    adapted_modules,
    add_lora,
    check_adapted_modules,
    inject_lora,
    lora_state_dict,
)
from palitune.models.adapters.plain_peft import (
    modules_of,
    read_plain_config,
    rename_weights,
    warn_unverified,
)
from palitune.models.adapters.stored_lora import read_lora_config
from palitune.models.config import ModelConfig, Network
from palitune.models.hub_files import family
from palitune.models.released_names import (
    match_targets,
    portable_target,
    released_module,
    released_tensor,
)

METADATA_FILE = "palitune.json"
LORA_WEIGHTS_FILE = "adapter_model.safetensors"
FULL_WEIGHTS_FILE = "trained.safetensors"

StateDict = dict[str, Tensor]

_WEIGHT_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """Content of palitune.json."""

    palitune: str
    """Version of the package that saved the adapter."""
    adapter: str
    """"lora" (also with a quantized base) or "full"."""
    bits: int | None
    """Bits per weight of the quantized base; null: not quantized."""
    base: str
    """Hub id or folder of the base model."""
    revision: str
    family: str
    resolution: int
    """Side of the image, in pixels."""
    fingerprint: str
    """`hub_files.fingerprint` of the base model; empty for a plain PEFT adapter."""
    final_logit_softcapping: bool
    attention_logit_softcapping: bool
    tensors: int
    """Number of tensors in the weights' file."""

    @property
    def is_plain_peft(self) -> bool:
        """Whether PEFT saved the adapter, so that the base is not known."""
        return not self.fingerprint

    @classmethod
    def read(cls, folder: str | Path) -> "AdapterMetadata":
        """Read the metadata of an adapter folder. Raises ModelError if it is not readable."""
        file = Path(folder).expanduser() / METADATA_FILE
        if not file.exists() and (config := read_plain_config(file.parent)):
            return cls(
                palitune="",
                adapter="lora",
                bits=None,
                base=config.get("base_model_name_or_path") or "",
                revision=config.get("revision") or "main",
                family="",
                resolution=0,
                fingerprint="",
                final_logit_softcapping=False,
                attention_logit_softcapping=False,
                tensors=0,
            )
        try:
            metadata = cls(**parse_json(file.read_text(encoding="utf-8")))
            metadata._check_types()
            return metadata
        except (OSError, TypeError, ValueError) as error:
            raise ModelError(
                f"{file} is missing or unreadable. Give an adapter folder of a training run."
            ) from error

    def _check_types(self) -> None:
        """Raise TypeError if a field has another type than the declared one."""
        for name, expected in get_type_hints(type(self)).items():
            if type(getattr(self, name)) not in (get_args(expected) or (expected,)):
                raise TypeError(f"{name} is {getattr(self, name)!r}")


def save_adapter(network: Network, folder: str | Path, model: ModelConfig) -> None:
    """Save the trained weights and the metadata of their base `model`.

    Other files of the folder stay. Only the main process writes; the others wait for it.
    """
    collectives.run_on_main_process(lambda: _write_adapter(network, folder, model))


def saved_quantization_bits(folder: str | Path) -> int | None:
    """Return the bits per weight of the quantized base of a saved adapter; None if unquantized."""
    return AdapterMetadata.read(folder).bits


def adapts_projector(folder: str | Path) -> bool:
    """Return whether a saved adapter is a LoRA on the projector, which vLLM cannot load."""
    folder = Path(folder).expanduser()
    if AdapterMetadata.read(folder).adapter == Full.name:
        return False
    targets = LoraConfig.from_pretrained(str(folder)).target_modules
    return "projector" in set(map(module_group, targets))


def _write_adapter(network: Network, folder: str | Path, model: ModelConfig) -> None:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METADATA_FILE).unlink(missing_ok=True)  # its presence marks a complete folder
    if isinstance(network, PeftModel):
        kind, file, base = "lora", LORA_WEIGHTS_FILE, network.get_base_model()
        config, weights = _to_plain_lora(network)
        config.target_modules = sorted(map(portable_target, config.target_modules))
        config.base_model_name_or_path = model.name_or_path()
        config.save_pretrained(folder)
    else:
        kind, file, base = Full.name, FULL_WEIGHTS_FILE, network
        weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
    released_name = _released_name(kind)
    plain = {
        released_name(key): weight.detach().cpu().contiguous() for key, weight in weights.items()
    }
    save_file(plain, folder / file, metadata={"format": "pt"})
    final, attention = _softcap_flags(base)
    metadata = AdapterMetadata(
        palitune=__version__,
        adapter=kind,
        bits=_quantization_bits(base),
        base=model.name_or_path(),
        revision=model.revision,
        family=family(base.config),
        resolution=base.config.vision_config.image_size,
        fingerprint=base.base_fingerprint,
        final_logit_softcapping=final,
        attention_logit_softcapping=attention,
        tensors=len(plain),
    )
    (folder / METADATA_FILE).write_text(
        json.dumps(asdict(metadata), indent=2) + "\n", encoding="utf-8"
    )


def load_adapter(
    network: Network,
    folder: str | Path,
    *,
    trainable: bool = False,
    allow_base_mismatch: bool = False,
) -> Network:
    """Load a saved adapter into the base it was trained on, in place, and return the network.

    A partly loaded adapter would look like one that learned little, so every tensor is checked.

    Args:
        network: The base model.
        folder: Folder of the saved adapter.
        trainable: Whether the adapter's weights get gradients.
        allow_base_mismatch: Accept a base with other weights of the same shapes.

    Raises:
        ModelError: The base is another one, or a tensor is missing, unexpected or misshapen.
    """
    folder = Path(folder).expanduser()
    metadata = AdapterMetadata.read(folder)
    if metadata.is_plain_peft:
        warn_unverified(folder, metadata.base)
    check_base_model(network, metadata, allow_base_mismatch)
    weights, file = _load_weights(folder, metadata)
    if metadata.adapter == Full.name:
        return _load_full_weights(network, weights, file, trainable)
    return _load_lora(network, weights, file, trainable)


def load_additional_adapter(
    peft_model: Network, folder: str | Path, name: str, *, allow_base_mismatch: bool = False
) -> None:
    """Load a further LoRA, frozen and inactive, into a network that has one.

    Args:
        peft_model: Network with a LoRA.
        folder: Folder of the saved adapter.
        name: Name of the adapter in the network.
        allow_base_mismatch: As in `load_adapter`, which also lists the errors.
    """
    folder = Path(folder).expanduser()
    metadata = AdapterMetadata.read(folder)
    if metadata.adapter == Full.name:
        raise ModelError(f"{folder} is not a LoRA adapter; only LoRA adapters can be combined.")
    check_base_model(peft_model.get_base_model(), metadata, allow_base_mismatch)
    weights, file = _load_weights(folder, metadata)
    config = _read_lora_config(folder, weights, peft_model.get_base_model(), trainable=False)
    add_lora(peft_model, config, name)
    _load_lora_weights(peft_model, weights, file, name)


def _load_weights(folder: Path, metadata: AdapterMetadata) -> tuple[StateDict, Path]:
    file = folder / (FULL_WEIGHTS_FILE if metadata.adapter == Full.name else LORA_WEIGHTS_FILE)
    try:
        weights: StateDict = load_file(file)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error}). Copy the whole folder.") from error
    if metadata.is_plain_peft:
        weights = rename_weights(weights)
    elif len(weights) != metadata.tensors:
        raise ModelError(
            f"{file} contains {len(weights)} tensors, but {metadata.tensors} were saved. Copy the "
            "whole folder again."
        )
    for name, weight in weights.items():
        if weight.dtype not in _WEIGHT_DTYPES or not bool(torch.isfinite(weight).all()):
            raise ModelError(
                f"{file}: {name} must hold finite floating-point numbers, got {weight.dtype}"
                f"{' with others' if weight.dtype in _WEIGHT_DTYPES else ''}. Train it again."
            )
    released_name = _released_name(metadata.adapter)
    renamed = {released_name(name): weight for name, weight in weights.items()}
    if len(renamed) != len(weights):
        raise ModelError(f"{file} contains a tensor by two names. Copy the whole folder again.")
    changed = sorted(weights.keys() - renamed.keys())
    if changed and not metadata.is_plain_peft:
        _logger.warning(
            "%s has tensor names of an earlier version (first %s). They are renamed while reading; "
            "train or save the adapter again to use it with other programs.",
            file,
            changed[0],
        )
    return renamed, file


def _released_name(adapter: str) -> Callable[[str], str]:
    return released_tensor if adapter == Full.name else released_module


def _read_lora_config(
    folder: Path, weights: StateDict, base: Network, *, trainable: bool
) -> LoraConfig:
    """Return the configuration of a saved LoRA with the names of modules that `base` has."""
    is_plain = not (folder / METADATA_FILE).exists()
    # A plain PEFT adapter may name suffixes or a pattern; its weights name the modules.
    config = read_lora_config(folder, weights, sorted(modules_of(weights)) if is_plain else None)
    config.inference_mode = not trainable
    modules = (name for name, _ in base.named_modules())
    config.target_modules = match_targets(config.target_modules, modules)
    return config


def _load_lora(network: Network, weights: StateDict, file: Path, trainable: bool) -> Network:
    config = _read_lora_config(file.parent, weights, network, trainable=trainable)
    expected = set(config.target_modules)
    adapted = inject_lora(network, config)
    check_adapted_modules(adapted, expected, trainable=trainable)
    _load_lora_weights(adapted, weights, file)
    return adapted.eval()


def _load_lora_weights(
    peft_model: Network, weights: StateDict, file: Path, adapter_name: str = "default"
) -> None:
    expected = lora_state_dict(peft_model, adapter_name)
    by_released = {released_module(key): tensor for key, tensor in expected.items()}
    _check_keys_and_shapes(weights, by_released, file)
    weights_of_network = {key: weights[released_module(key)] for key in expected}
    set_peft_model_state_dict(peft_model, weights_of_network, adapter_name=adapter_name)
    # PEFT renames the keys of some models while loading, so compare the loaded values.
    for key, loaded in lora_state_dict(peft_model, adapter_name).items():
        if not torch.equal(loaded.cpu(), weights_of_network[key].to(loaded.dtype)):
            raise ModelError(f"{file}: {key} was not loaded into the network")


def _load_full_weights(
    network: Network, weights: StateDict, file: Path, trainable: bool
) -> Network:
    parameters = {released_tensor(name): weight for name, weight in network.named_parameters()}
    _check_keys_and_shapes(weights, {n: parameters[n] for n in weights if n in parameters}, file)
    network.requires_grad_(False)
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
            parameters[name].requires_grad_(trainable)
    return network.eval()


def _check_keys_and_shapes(saved: StateDict, expected: StateDict, file: Path) -> None:
    for key in sorted(saved.keys() | expected.keys()):
        if key not in saved:
            raise ModelError(f"{file}: {key} is missing, so the adapter would be incomplete")
        if key not in expected:
            raise ModelError(f"{file}: the network has no weight {key}")
        if saved[key].shape != expected[key].shape:
            raise ModelError(
                f"{file}: {key} must have shape {tuple(expected[key].shape)}, got "
                f"{tuple(saved[key].shape)}"
            )


def check_base_model(
    network: Network, metadata: AdapterMetadata, allow_base_mismatch: bool
) -> None:
    """Raise ModelError if an adapter was trained on another base than `network`."""
    if metadata.is_plain_peft:
        return
    actual = family(network.config), network.config.vision_config.image_size
    if actual != (metadata.family, metadata.resolution):
        raise ModelError(
            f"the adapter was trained on {metadata.base} ({metadata.family}, "
            f"{metadata.resolution} px), not on a {actual[0]} of {actual[1]} px. Set model to that "
            "base."
        )
    if network.base_fingerprint != metadata.fingerprint and not allow_base_mismatch:
        raise ModelError(
            f"the adapter was trained on {metadata.base} at revision {metadata.revision}, whose "
            "weights differ from this model's. Set model to that base, or "
            "adapter.allow_base_mismatch=true to use it anyway."
        )
    final, attention = metadata.final_logit_softcapping, metadata.attention_logit_softcapping
    if _softcap_flags(network) != (final, attention):
        raise ModelError(
            f"the adapter was trained with model.final_logit_softcapping={final} and "
            f"model.attention_logit_softcapping={attention}. Load the base with them."
        )


def _softcap_flags(base: Network) -> tuple[bool, bool]:
    """Return whether output logits and attention scores are soft-capped."""
    text = base.config.text_config
    if family(base.config) == "paligemma":
        return False, False
    return text.final_logit_softcapping is not None, text.attn_logit_softcapping is not None


def _quantization_bits(base: Network) -> int | None:
    if not getattr(base, "is_quantized", False):
        return None
    return 4 if base.config.quantization_config.load_in_4bit else 8


def _to_plain_lora(peft_model: Network) -> tuple[Any, StateDict]:
    """Return configuration and weights of the adapter for the unmodified base.

    PiSSA and OLoRA subtract their initial product B0 A0 from the base, so the learned update is
    B A - B0 A0. It is saved as a plain LoRA of twice the rank, loaded without decomposition.
    """
    config = copy.deepcopy(peft_model.peft_config["default"])
    config.target_modules = sorted(adapted_modules(peft_model))
    config.init_lora_weights, config.inference_mode = True, True
    weights, initial = lora_state_dict(peft_model), peft_model.initial_lora_weights
    if not initial:
        return config, weights
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    config.r *= 2
    config.lora_alpha, config.use_rslora = scale * config.r, False
    return config, {
        key: torch.cat([weight, initial[key]], dim=0)
        if "lora_A" in key
        else torch.cat([weight, -initial[key]], dim=1)
        for key, weight in weights.items()
    }
