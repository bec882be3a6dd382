"""Several LoRA adapters of one base, put on as their weighted sum."""

from dataclasses import dataclass, field
from enum import Enum

from palitune.models import lora_layers
from palitune.models.checkpoints import ModelError, Network


class Rule(Enum):
    """How adapters become one."""

    cat = "cat"
    linear = "linear"


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Folders of adapters with their weights."""

    paths: list[str]
    weights: list[float] = field(default_factory=list)
    """One per path; none: each counts in full."""
    rule: Rule = Rule.cat
    any_base: bool = False


def combine(adapted: Network, combination: Combination) -> Network:
    """Put the adapters after the first beside it, make them one, and return the network."""
    if len(combination.paths) == 1 and not combination.weights:
        return adapted
    from peft import PeftModel

    from palitune.models.adapter_files import load_beside

    if not isinstance(adapted, PeftModel):
        raise ModelError(f"{combination.paths[0]} is no LoRA; only LoRA adapters are combined")
    names = ["default"]
    for number, path in enumerate(combination.paths[1:], start=1):
        names.append(f"adapter_{number}")
        load_beside(adapted, path, names[-1], any_base=combination.any_base)
    weights = combination.weights or [1.0] * len(names)
    try:
        lora_layers.combine(adapted, names, weights, combination.rule.value, "combined")
    except (ValueError, NotImplementedError, TypeError) as fault:
        raise ModelError(f"combine: PEFT cannot make one of these adapters: {fault}") from fault
    return adapted.eval()
