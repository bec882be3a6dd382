"""LoRA layers inside a network: put there by PEFT, found, checked, read."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from palitune.errors import ModelError
from palitune.models.config import Network

if TYPE_CHECKING:
    from torch import Tensor

PEFT_PREFIX = "base_model.model."
"""What PEFT puts before the names of the modules it has wrapped."""


def inject_lora(network: Network, config: Any) -> Network:
    """Put LoRA of a PEFT configuration on the network, in place, and return it wrapped."""
    from peft import get_peft_model

    from palitune.models.adapters.fast_lora import use_fast_lora

    with _suppress_known_warnings():
        adapted = get_peft_model(network, config)
    use_fast_lora(adapted)
    # Else every checkpoint holds the whole head beside its LoRA, and PEFT warns that it does.
    adapted.save_pretrained = partial(adapted.save_pretrained, save_embedding_layers=False)
    # What LoRA took out of the base weights when it started, by the names of `lora_weights`.
    adapted.initial_lora_weights = {}
    return adapted


def unload_lora(network: Network) -> Network:
    """Take a LoRA off again, if there is one, and return the base, ready for another."""
    from bitsandbytes.nn import Linear8bitLt

    for module in network.modules():
        if isinstance(module, Linear8bitLt) and module.state.SCB is not None:
            # PEFT moves the layers that it wraps and unwraps, which loses the scales of int8
            # weights once their first use has taken them away from the weights.
            module.weight.CB, module.weight.SCB = module.state.CB, module.state.SCB
    return network.unload() if hasattr(network, "unload") else network


def add_lora(peft_model: Network, config: Any, adapter_name: str) -> None:
    """Put a further LoRA on a wrapped network, in place and not yet active."""
    from palitune.models.adapters.fast_lora import use_fast_lora

    with _suppress_known_warnings():
        peft_model.add_adapter(adapter_name, config)
    use_fast_lora(peft_model)


def add_weighted_adapter(
    peft_model: Network,
    adapter_names: list[str],
    weights: list[float],
    combination_type: str,
    combined_name: str,
) -> None:
    """Make the adapters of a network one, by a rule of PEFT's, and use that alone, frozen."""
    with _suppress_known_warnings():
        peft_model.add_weighted_adapter(adapter_names, weights, combined_name, combination_type)
    peft_model.set_adapter(combined_name)
    peft_model.requires_grad_(False)


@contextmanager
def _suppress_known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # PEFT asks transformers for a property by the name it had before.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        # A head that is tied to the embeddings: its LoRA is its own; `merging` unties it.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        yield


def lora_state_dict(peft_model: Network, adapter_name: str = "default") -> dict[str, "Tensor"]:
    """Give an adapter's tensors by the names they are saved under."""
    from peft import get_peft_model_state_dict

    weights: dict[str, Tensor] = get_peft_model_state_dict(
        peft_model, adapter_name=adapter_name, save_embedding_layers=False
    )
    return weights


def adapted_modules(peft_model: Network) -> set[str]:
    """Name the modules that carry LoRA weights, as the base network names them."""
    return {
        name.removeprefix(PEFT_PREFIX)
        for name, module in peft_model.named_modules()
        if hasattr(module, "lora_A")
    }


def check_adapted_modules(
    peft_model: Network, expected: set[str], *, trainable: bool = True
) -> None:
    """Refuse a network whose adapter sits elsewhere than expected, or that trains anything else."""
    if odd := sorted(adapted_modules(peft_model) ^ expected):
        raise ModelError(f"adapter: {len(odd)} modules were not adapted as asked, first {odd[0]}")
    for name, parameter in peft_model.named_parameters():
        ours = "lora_" in name
        if parameter.requires_grad != (ours and trainable):
            raise ModelError(f"adapter: {name} is trained or frozen against what was asked")
        if ours and str(parameter.dtype) != "torch.float32":
            raise ModelError(f"adapter: {name} is {parameter.dtype}, not float32")
