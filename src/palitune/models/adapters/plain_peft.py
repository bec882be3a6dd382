"""LoRA adapters that PEFT saved without Palitune: their configuration, modules and weight names."""

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.errors import ModelError
from palitune.models.adapters.peft_layers import PEFT_PREFIX
from palitune.models.adapters.stored_lora import CONFIG_FILE, read_adapter_config

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

# transformers 4.52 moved the parts of PaliGemma below `model`.
_FORMER_PARTS = (
    (r"^base_model\.model\.language_model\.model\.", "base_model.model.model.language_model."),
    (r"^base_model\.model\.language_model\.lm_head\.", "base_model.model.lm_head."),
    (r"^base_model\.model\.vision_tower\.", "base_model.model.model.vision_tower."),
    (
        r"^base_model\.model\.multi_modal_projector\.",
        "base_model.model.model.multi_modal_projector.",
    ),
)


def read_plain_config(folder: Path) -> dict[str, Any] | None:
    """Return PEFT's configuration of a folder; None if it has none.

    Raises ModelError if it is no LoRA that changes linear layers only.
    """
    file = folder / CONFIG_FILE
    if not file.is_file():
        return None
    config = read_adapter_config(file)
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"{file}: peft_type must be LORA, got {config.get('peft_type')}. Use a LoRA adapter."
        )
    for key, accepted in {"modules_to_save": (None, []), "bias": (None, "none")}.items():
        if config.get(key) not in accepted:
            raise ModelError(
                f"{file}: {key} must be {json.dumps(accepted[-1])}, got {config[key]!r}. Merge the "
                "adapter with PEFT and load the merged model with model=local."
            )
    return config


def warn_unverified(folder: Path, base: str) -> None:
    """Log what cannot be verified for an adapter that Palitune did not save."""
    _log.warning(
        "%s is a plain PEFT adapter without palitune.json: names and shapes of its weights are "
        "checked, but not that the model is its base %s, nor task, prompt and quantization",
        folder,
        base or "(unnamed)",
    )


def rename_weights(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return weights by the names of the current transformers."""
    return {_rename(name): weight for name, weight in weights.items()}


def _rename(name: str) -> str:
    for pattern, current in _FORMER_PARTS:
        name = re.sub(pattern, current, name)
    return name


def modules_of(weight_names: Iterable[str]) -> set[str]:
    """Return the modules that weights of a LoRA belong to."""
    return {
        name.partition(".lora_")[0].removeprefix(PEFT_PREFIX)
        for name in weight_names
        if ".lora_" in name
    }
