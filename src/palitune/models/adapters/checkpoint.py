"""The folder of a trained adapter: written whole, read back only where every tensor lands.

adapter_config.json and adapter_model.safetensors are PEFT's own (for adapter=full:
trained.safetensors); palitune.json, written last, says which base they belong to.
"""

import copy
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palitune import __version__
from palitune.distributed import collectives
from palitune.errors import ModelError
from palitune.models.adapters.config import Full
from palitune.models.adapters.peft_layers import (
    adapted_modules,
    add_lora,
    check_adapted_modules,
    inject_lora,
    lora_state_dict,
)
from palitune.models.config import ModelConfig, Network
from palitune.models.hub_files import family

METADATA_FILE = "palitune.json"
LORA_WEIGHTS_FILE = "adapter_model.safetensors"
FULL_WEIGHTS_FILE = "trained.safetensors"

StateDict = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class AdapterMetadata:
    """What palitune.json says."""

    palitune: str
    """Version that wrote it."""
    adapter: str
    """"lora" (of a quantized base too) or "full"."""
    bits: int | None
    """Per weight of the base during training; null: not quantized."""
    base: str
    """Hub id or folder of the base model."""
    revision: str
    family: str
    resolution: int
    """Side of the image, in pixels."""
    fingerprint: str
    """Of the base model's weights."""
    final_logit_softcapping: bool
    attention_logit_softcapping: bool
    tensors: int
    """How many the weights' file holds."""

    @classmethod
    def read(cls, folder: str | Path) -> "AdapterMetadata":
        file = Path(folder).expanduser() / METADATA_FILE
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as fault:
            raise ModelError(
                f"{file} is missing or unreadable; give a folder that training has written, with "
                "its palitune.json"
            ) from fault


def save_adapter(network: Network, folder: str | Path, model: ModelConfig) -> None:
    """Write the trained weights and the metadata of their base into `folder`.

    Only the main process writes; the other processes wait for it.
    """
    collectives.run_on_main_process(lambda: _write_adapter(network, folder, model))


def saved_quantization_bits(folder: str | Path) -> int | None:
    """Return the bits per weight of the quantized base of a saved adapter; None if unquantized."""
    return AdapterMetadata.read(folder).bits


def _write_adapter(network: Network, folder: str | Path, model: ModelConfig) -> None:
    """Write what was trained on `model` into the folder, next to what else is there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METADATA_FILE).unlink(missing_ok=True)  # its presence tells that the rest is whole
    if isinstance(network, PeftModel):
        kind, file, base = "lora", LORA_WEIGHTS_FILE, network.get_base_model()
        config, weights = _to_plain_lora(network)
        config.base_model_name_or_path = model.name_or_path()
        config.save_pretrained(folder)
    else:
        kind, file, base = Full.name, FULL_WEIGHTS_FILE, network
        weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
    plain = {key: weight.detach().cpu().contiguous() for key, weight in weights.items()}
    save_file(plain, folder / file, metadata={"format": "pt"})
    final, attention = _softcap_flags(base)
    record = AdapterMetadata(
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
        json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8"
    )


def load_adapter(
    network: Network,
    folder: str | Path,
    *,
    trainable: bool = False,
    allow_base_mismatch: bool = False,
) -> Network:
    """Put a saved adapter on the base it was trained on; `network` is used up.

    Raises ModelError where the base is another one (with `allow_base_mismatch`: of another shape), or where a
    single tensor is missing, left over or of another shape: an adapter that lands in part looks
    like one that learned little.
    """
    folder = Path(folder).expanduser()
    record = AdapterMetadata.read(folder)
    check_base_model(network, record, allow_base_mismatch)
    weights, file = _load_weights(folder, record)
    if record.adapter == Full.name:
        return _load_full_weights(network, weights, file, trainable)
    return _load_lora(network, weights, file, trainable)


def load_additional_adapter(
    peft_model: Network, folder: str | Path, name: str, *, allow_base_mismatch: bool = False
) -> None:
    """Put a further LoRA, frozen and not yet active, on a network that has one.

    Raises ModelError as `load_adapter` does.
    """
    folder = Path(folder).expanduser()
    record = AdapterMetadata.read(folder)
    if record.adapter == Full.name:
        raise ModelError(f"{folder} is no LoRA; only LoRA adapters are combined")
    check_base_model(peft_model.get_base_model(), record, allow_base_mismatch)
    weights, file = _load_weights(folder, record)
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    add_lora(peft_model, config, name)
    _load_lora_weights(peft_model, weights, file, name)


def _load_weights(folder: Path, metadata: AdapterMetadata) -> tuple[StateDict, Path]:
    file = folder / (FULL_WEIGHTS_FILE if metadata.adapter == Full.name else LORA_WEIGHTS_FILE)
    try:
        weights: StateDict = load_file(file)
    except (OSError, SafetensorError) as fault:
        raise ModelError(f"{file} cannot be read ({fault}); copy the whole folder") from fault
    if len(weights) != metadata.tensors:
        raise ModelError(
            f"{file} holds {len(weights)} tensors, but {metadata.tensors} were saved; copy the whole "
            "folder again"
        )
    return weights, file


def _load_lora(network: Network, weights: StateDict, file: Path, trainable: bool) -> Network:
    config = LoraConfig.from_pretrained(str(file.parent))
    config.inference_mode = not trainable
    expected = set(config.target_modules)
    adapted = inject_lora(network, config)
    check_adapted_modules(adapted, expected, trainable=trainable)
    _load_lora_weights(adapted, weights, file)
    return adapted.eval()


def _load_lora_weights(
    peft_model: Network, weights: StateDict, file: Path, adapter_name: str = "default"
) -> None:
    _check_keys_and_shapes(weights, lora_state_dict(peft_model, adapter_name), file)
    set_peft_model_state_dict(peft_model, weights, adapter_name=adapter_name)
    # PEFT renames keys of some models on the way in; what counts is what arrived.
    for key, arrived in lora_state_dict(peft_model, adapter_name).items():
        if not torch.equal(arrived.cpu(), weights[key].to(arrived.dtype)):
            raise ModelError(f"{file}: {key} did not arrive in the network")


def _load_full_weights(
    network: Network, weights: StateDict, file: Path, trainable: bool
) -> Network:
    parameters = dict(network.named_parameters())
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
            raise ModelError(f"{file}: {key} is missing; the adapter would be put on in part")
        if key not in expected:
            raise ModelError(f"{file}: the network has no place for {key}")
        if saved[key].shape != expected[key].shape:
            raise ModelError(
                f"{file}: {key} is {tuple(saved[key].shape)}, the network needs "
                f"{tuple(expected[key].shape)}"
            )


def check_base_model(
    network: Network, metadata: AdapterMetadata, allow_base_mismatch: bool
) -> None:
    """Raise ModelError where an adapter was trained on another base than this one."""
    found = family(network.config), network.config.vision_config.image_size
    if found != (metadata.family, metadata.resolution):
        raise ModelError(
            f"the adapter was trained on {metadata.base} ({metadata.family}, {metadata.resolution} px), "
            f"not on a {found[0]} of {found[1]} px; set model to that base"
        )
    if network.base_fingerprint != metadata.fingerprint and not allow_base_mismatch:
        raise ModelError(
            f"the adapter was trained on {metadata.base} at revision {metadata.revision}, whose "
            "weights differ from this model's; set model to that base (adapter.allow_base_mismatch=true takes "
            "it all the same)"
        )
    if _softcap_flags(network) != (
        metadata.final_logit_softcapping,
        metadata.attention_logit_softcapping,
    ):
        raise ModelError(
            "the adapter was trained with model.final_logit_softcapping="
            f"{metadata.final_logit_softcapping} and model.attention_logit_softcapping="
            f"{metadata.attention_logit_softcapping}; load the base with them"
        )


def _softcap_flags(base: Network) -> tuple[bool, bool]:
    """Tell whether output logits and attention scores are soft-capped."""
    text = base.config.text_config
    if family(base.config) == "paligemma":
        return False, False
    return text.final_logit_softcapping is not None, text.attn_logit_softcapping is not None


def _quantization_bits(base: Network) -> int | None:
    if not getattr(base, "is_quantized", False):
        return None
    return 4 if base.config.quantization_config.load_in_4bit else 8


def _to_plain_lora(peft_model: Network) -> tuple[Any, StateDict]:
    """Give configuration and weights of the adapter for the base as it is on disk.

    Where LoRA started with B0 A0 taken out of the base (PiSSA, OLoRA), what was learned is
    B A - B0 A0: a plain adapter of twice the rank, which needs no decomposition when it is read.
    """
    config = copy.deepcopy(peft_model.peft_config["default"])
    config.target_modules = sorted(adapted_modules(peft_model))
    config.init_lora_weights, config.inference_mode = True, True
    weights, moved = lora_state_dict(peft_model), peft_model.initial_lora_weights
    if not moved:
        return config, weights
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    config.r *= 2
    config.lora_alpha, config.use_rslora = scale * config.r, False
    return config, {
        key: torch.cat([weight, moved[key]], dim=0)
        if "lora_A" in key
        else torch.cat([weight, -moved[key]], dim=1)
        for key, weight in weights.items()
    }
