"""Several LoRA adapters of one base, put on as their weighted sum."""

from dataclasses import dataclass, field
from enum import Enum

from palitune.errors import ModelError
from palitune.models.adapters import peft_layers
from palitune.models.config import Network


class CombinationType(Enum):
    """How adapters become one."""

    cat = "cat"
    linear = "linear"


@dataclass(frozen=True, kw_only=True)
class AdapterCombination:
    """Folders of adapters with their weights."""

    paths: list[str]
    weights: list[float] = field(default_factory=list)
    """One per path; none: each counts in full."""
    combination_type: CombinationType = CombinationType.cat
    allow_base_mismatch: bool = False


def combine_adapters(peft_model: Network, combination: AdapterCombination) -> Network:
    """Put the adapters after the first beside it, make them one, and return the network."""
    if len(combination.paths) == 1 and not combination.weights:
        return peft_model
    from peft import PeftModel

    from palitune.models.adapters.checkpoint import load_additional_adapter

    if not isinstance(peft_model, PeftModel):
        raise ModelError(f"{combination.paths[0]} is no LoRA; only LoRA adapters are combined")
    names = ["default"]
    for number, path in enumerate(combination.paths[1:], start=1):
        names.append(f"adapter_{number}")
        load_additional_adapter(
            peft_model, path, names[-1], allow_base_mismatch=combination.allow_base_mismatch
        )
    weights = combination.weights or [1.0] * len(names)
    try:
        peft_layers.add_weighted_adapter(
            peft_model, names, weights, combination.combination_type.value, "combined"
        )
    except (ValueError, NotImplementedError, TypeError) as fault:
        raise ModelError(f"adapters: PEFT cannot make one of these adapters: {fault}") from fault
    return peft_model.eval()
