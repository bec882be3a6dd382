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
from palitune.models.adapters import Full
from palitune.models.base_files import family
from palitune.models.checkpoints import Model, ModelError, Network
from palitune.models.lora_layers import (
    adapted_modules,
    check_adapted,
    inject,
    inject_beside,
    lora_weights,
)

RECORD = "palitune.json"
LORA_WEIGHTS = "adapter_model.safetensors"
FULL_WEIGHTS = "trained.safetensors"

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Record:
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
    def read(cls, folder: str | Path) -> "Record":
        file = Path(folder).expanduser() / RECORD
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as fault:
            raise ModelError(
                f"{file} is missing or unreadable; give a folder that training has written, with "
                "its palitune.json"
            ) from fault


def save_adapter(network: Network, folder: str | Path, model: Model) -> None:
    """Write what was trained on `model` into the folder, next to what else is there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # its presence tells that the rest is whole
    if isinstance(network, PeftModel):
        kind, file, base = "lora", LORA_WEIGHTS, network.get_base_model()
        config, weights = _for_whole_base(network)
        config.base_model_name_or_path = model.source()
        config.save_pretrained(folder)
    else:
        kind, file, base = Full.name, FULL_WEIGHTS, network
        weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
    plain = {key: weight.detach().cpu().contiguous() for key, weight in weights.items()}
    save_file(plain, folder / file, metadata={"format": "pt"})
    final, attention = _softcaps(base)
    record = Record(
        palitune=__version__,
        adapter=kind,
        bits=_bits(base),
        base=model.source(),
        revision=model.revision,
        family=family(base.config),
        resolution=base.config.vision_config.image_size,
        fingerprint=base.base_fingerprint,
        final_logit_softcapping=final,
        attention_logit_softcapping=attention,
        tensors=len(plain),
    )
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def load_adapter(
    network: Network, folder: str | Path, *, trainable: bool = False, any_base: bool = False
) -> Network:
    """Put a saved adapter on the base it was trained on; `network` is used up.

    Raises ModelError where the base is another one (with `any_base`: of another shape), or where a
    single tensor is missing, left over or of another shape: an adapter that lands in part looks
    like one that learned little.
    """
    folder = Path(folder).expanduser()
    record = Record.read(folder)
    check_base(network, record, any_base)
    weights, file = _read_weights(folder, record)
    if record.adapter == Full.name:
        return _load_trained(network, weights, file, trainable)
    return _load_lora(network, weights, file, trainable)


def load_beside(adapted: Network, folder: str | Path, name: str, *, any_base: bool = False) -> None:
    """Put a further LoRA, frozen and not yet active, on a network that has one.

    Raises ModelError as `load_adapter` does.
    """
    folder = Path(folder).expanduser()
    record = Record.read(folder)
    if record.adapter == Full.name:
        raise ModelError(f"{folder} is no LoRA; only LoRA adapters are combined")
    check_base(adapted.get_base_model(), record, any_base)
    weights, file = _read_weights(folder, record)
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    inject_beside(adapted, config, name)
    _land(adapted, weights, file, name)


def _read_weights(folder: Path, record: Record) -> tuple[Weights, Path]:
    file = folder / (FULL_WEIGHTS if record.adapter == Full.name else LORA_WEIGHTS)
    try:
        weights: Weights = load_file(file)
    except (OSError, SafetensorError) as fault:
        raise ModelError(f"{file} cannot be read ({fault}); copy the whole folder") from fault
    if len(weights) != record.tensors:
        raise ModelError(
            f"{file} holds {len(weights)} tensors, but {record.tensors} were saved; copy the whole "
            "folder again"
        )
    return weights, file


def _load_lora(network: Network, weights: Weights, file: Path, trainable: bool) -> Network:
    config = LoraConfig.from_pretrained(str(file.parent))
    config.inference_mode = not trainable
    expected = set(config.target_modules)
    adapted = inject(network, config)
    check_adapted(adapted, expected, trainable=trainable)
    _land(adapted, weights, file)
    return adapted.eval()


def _land(adapted: Network, weights: Weights, file: Path, name: str = "default") -> None:
    _check_all_land(weights, lora_weights(adapted, name), file)
    set_peft_model_state_dict(adapted, weights, adapter_name=name)
    # PEFT renames keys of some models on the way in; what counts is what arrived.
    for key, arrived in lora_weights(adapted, name).items():
        if not torch.equal(arrived.cpu(), weights[key].to(arrived.dtype)):
            raise ModelError(f"{file}: {key} did not arrive in the network")


def _load_trained(network: Network, weights: Weights, file: Path, trainable: bool) -> Network:
    parameters = dict(network.named_parameters())
    _check_all_land(weights, {n: parameters[n] for n in weights if n in parameters}, file)
    network.requires_grad_(False)
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
            parameters[name].requires_grad_(trainable)
    return network.eval()


def _check_all_land(saved: Weights, wanted: Weights, file: Path) -> None:
    for key in sorted(saved.keys() | wanted.keys()):
        if key not in saved:
            raise ModelError(f"{file}: {key} is missing; the adapter would be put on in part")
        if key not in wanted:
            raise ModelError(f"{file}: the network has no place for {key}")
        if saved[key].shape != wanted[key].shape:
            raise ModelError(
                f"{file}: {key} is {tuple(saved[key].shape)}, the network needs "
                f"{tuple(wanted[key].shape)}"
            )


def check_base(network: Network, record: Record, any_base: bool) -> None:
    """Raise ModelError where an adapter was trained on another base than this one."""
    found = family(network.config), network.config.vision_config.image_size
    if found != (record.family, record.resolution):
        raise ModelError(
            f"the adapter was trained on {record.base} ({record.family}, {record.resolution} px), "
            f"not on a {found[0]} of {found[1]} px; set model to that base"
        )
    if network.base_fingerprint != record.fingerprint and not any_base:
        raise ModelError(
            f"the adapter was trained on {record.base} at revision {record.revision}, whose "
            "weights differ from this model's; set model to that base (adapter.any_base=true takes "
            "it all the same)"
        )
    if _softcaps(network) != (record.final_logit_softcapping, record.attention_logit_softcapping):
        raise ModelError(
            "the adapter was trained with model.final_logit_softcapping="
            f"{record.final_logit_softcapping} and model.attention_logit_softcapping="
            f"{record.attention_logit_softcapping}; load the base with them"
        )


def _softcaps(base: Network) -> tuple[bool, bool]:
    """Tell whether output logits and attention scores are soft-capped."""
    text = base.config.text_config
    if family(base.config) == "paligemma":
        return False, False
    return text.final_logit_softcapping is not None, text.attn_logit_softcapping is not None


def _bits(base: Network) -> int | None:
    if not getattr(base, "is_quantized", False):
        return None
    return 4 if base.config.quantization_config.load_in_4bit else 8


def _for_whole_base(adapted: Network) -> tuple[Any, Weights]:
    """Give configuration and weights of the adapter for the base as it is on disk.

    Where LoRA started with B0 A0 taken out of the base (PiSSA, OLoRA), what was learned is
    B A - B0 A0: a plain adapter of twice the rank, which needs no decomposition when it is read.
    """
    config = copy.deepcopy(adapted.peft_config["default"])
    config.target_modules = sorted(adapted_modules(adapted))
    config.init_lora_weights, config.inference_mode = True, True
    weights, moved = lora_weights(adapted), adapted.moved_out_of_base
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
