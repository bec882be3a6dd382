"""PEFT model whose checkpoints hold LoRA only."""

from typing import Any

from peft import PeftModel
from torch import Tensor

from palitune.models.adapters.combination import RankReduction


class LoraNetwork(PeftModel):  # type: ignore[misc]
    """Network with LoRA.

    Attributes:
        initial_lora_weights: For PiSSA and OLoRA, the initial adapter, which was subtracted from
            the base weights.
        rank_reduction: Reduction of the adapter's rank after loading, if there was one.
    """

    initial_lora_weights: dict[str, Tensor]
    rank_reduction: RankReduction | None

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Save the LoRA. PEFT would also save a head with LoRA itself, with a warning."""
        super().save_pretrained(*args, **{"save_embedding_layers": False, **kwargs})


def as_lora_network(adapted: PeftModel) -> LoraNetwork:
    """Make a PEFT model a `LoraNetwork`, in place.

    A method stored on the instance would be a reference cycle that keeps the weights in memory.
    """
    adapted.__class__ = LoraNetwork
    network: LoraNetwork = adapted
    network.initial_lora_weights = {}
    network.rank_reduction = None
    return network
