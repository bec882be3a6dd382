"""LoRA layers of a network: injection by PEFT, inspection and checks."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from palitune.errors import ModelError
from palitune.models.config import Network

if TYPE_CHECKING:
    from torch import Tensor

PEFT_PREFIX = "base_model.model."
"""Prefix of module names in a PEFT model."""


def inject_lora(network: Network, config: Any) -> Network:
    """Add LoRA with a PEFT configuration to the network, in place, and return the PEFT model."""
    from peft import get_peft_model

    from palitune.models.adapters.fast_lora import use_fast_lora
    from palitune.models.adapters.frozen_norms import use_frozen_norms
    from palitune.models.adapters.lora_network import as_lora_network

    with _suppress_known_warnings():
        adapted = get_peft_model(network, config)
    use_fast_lora(adapted)
    use_frozen_norms(adapted)
    return as_lora_network(adapted)


def unload_lora(network: Network) -> Network:
    """Remove the LoRA, if there is one, and return the base."""
    from bitsandbytes.nn import Linear8bitLt

    for module in network.modules():
        if isinstance(module, Linear8bitLt) and module.state.SCB is not None:
            # PEFT moves layers when it unwraps them. This loses the scales of int8 weights, which
            # bitsandbytes takes from the weight to `state` on first use.
            module.weight.CB, module.weight.SCB = module.state.CB, module.state.SCB
    return network.unload() if hasattr(network, "unload") else network


def add_lora(peft_model: Network, config: Any, adapter_name: str) -> None:
    """Add a further LoRA to a PEFT model, in place and inactive."""
    from palitune.models.adapters.fast_lora import use_fast_lora

    with _suppress_known_warnings():
        peft_model.add_adapter(adapter_name, config)
    use_fast_lora(peft_model)


def replace_lora(peft_model: Network, factors: "Mapping[str, tuple[Tensor, Tensor]]") -> Network:
    """Replace all LoRA of a PEFT model, in place, by a frozen one with these factors.

    Args:
        peft_model: Network with LoRA.
        factors: By adapted module, A (rank, inputs) and B (outputs, rank), whose product is the
            update. Layers of lower rank are padded with zeros.

    Returns:
        The PEFT model of the same base.
    """
    from peft import LoraConfig

    rank = max(len(a) for a, _ in factors.values())
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=sorted(factors), inference_mode=True
    )
    adapted = inject_lora(unload_lora(peft_model), config)
    for name, (a, b) in factors.items():
        layer = adapted.get_submodule(f"{PEFT_PREFIX}{name}")
        layer.lora_A["default"].weight.data[: len(a)] = a
        layer.lora_A["default"].weight.data[len(a) :] = 0
        layer.lora_B["default"].weight.data[:, : len(a)] = b
    check_adapted_modules(adapted, set(factors), trainable=False)
    return adapted


@contextmanager
def _suppress_known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # PEFT reads a property of transformers by its former name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        # For a head tied to the embeddings, whose LoRA is separate; `merging` unties it.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        yield


def lora_state_dict(peft_model: Network, adapter_name: str = "default") -> dict[str, "Tensor"]:
    """Return an adapter's tensors by the names in its file."""
    from peft import get_peft_model_state_dict

    weights: dict[str, Tensor] = get_peft_model_state_dict(
        peft_model, adapter_name=adapter_name, save_embedding_layers=False
    )
    return weights


def adapted_modules(peft_model: Network) -> set[str]:
    """Return the names, in the base network, of the modules with LoRA."""
    return {
        name.removeprefix(PEFT_PREFIX)
        for name, module in peft_model.named_modules()
        if hasattr(module, "lora_A")
    }


def check_adapted_modules(
    peft_model: Network, expected: set[str], *, trainable: bool = True
) -> None:
    """Raise ModelError unless LoRA is on exactly the expected modules and only it is trainable.

    `trainable=False`: not even LoRA is trainable. LoRA weights must be float32.
    """
    if unexpected := sorted(adapted_modules(peft_model) ^ expected):
        raise ModelError(
            f"adapter: {len(unexpected)} modules are adapted although they should not be, or the "
            f"reverse; the first is {unexpected[0]}"
        )
    for name, parameter in peft_model.named_parameters():
        is_lora = "lora_" in name
        if parameter.requires_grad != (is_lora and trainable):
            state = "trainable" if parameter.requires_grad else "frozen"
            raise ModelError(f"adapter: {name} must not be {state}")
        if is_lora and str(parameter.dtype) != "torch.float32":
            raise ModelError(f"adapter: {name} must be float32, got {parameter.dtype}")
