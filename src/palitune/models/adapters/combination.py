"""Combination of several LoRA adapters of one base."""

from dataclasses import dataclass, field
from enum import Enum

from palitune.errors import ModelError
from palitune.models.adapters import peft_layers
from palitune.models.config import Network


class CombinationType(Enum):
    """PEFT's rule for combining adapters."""

    cat = "cat"  # concatenate: the exact weighted sum, for any ranks
    linear = "linear"  # weighted sum of the factors, for equal ranks


@dataclass(frozen=True, kw_only=True)
class AdapterCombination:
    """Adapter folders, their weights, and how to combine them."""

    paths: list[str]
    weights: list[float] = field(default_factory=list)
    """One per path; empty: each weight is 1."""
    combination_type: CombinationType = CombinationType.cat
    allow_base_mismatch: bool = False


def combine_adapters(peft_model: Network, combination: AdapterCombination) -> Network:
    """Load the adapters after the first, which `peft_model` has, and activate their combination."""
    if len(combination.paths) == 1 and not combination.weights:
        return peft_model
    from peft import PeftModel

    from palitune.models.adapters.checkpoint import load_additional_adapter

    if not isinstance(peft_model, PeftModel):
        raise ModelError(
            f"{combination.paths[0]} is not a LoRA adapter; only LoRA adapters can be combined."
        )
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
    except (ValueError, NotImplementedError, TypeError) as error:
        raise ModelError(f"adapters: PEFT cannot combine these adapters: {error}") from error
    return peft_model.eval()
