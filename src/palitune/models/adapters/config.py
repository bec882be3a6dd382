"""Adapter configuration: LoRA, QLoRA, or full fine-tuning.

Targets are parts of PaliGemma, resolved to the module names of a network. Lists of module suffixes
such as q_proj and v_proj would also match half of the vision tower by accident.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from palitune.errors import ModelError, check_ranges
from palitune.models.adapters.peft_layers import (
    PEFT_PREFIX,
    adapted_modules,
    check_adapted_modules,
    inject_lora,
    lora_state_dict,
)
from palitune.models.config import Dtype, Network

MODULE_GROUPS = (
    "language.attention",
    "language.mlp",
    "vision.attention",
    "vision.mlp",
    "projector",
    "head",
)
MODULE_GROUP_ALIASES = ("language", "vision")


class Initialization(Enum):
    """Initialization of LoRA."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    pissa = "pissa"
    pissa_niter_4 = "pissa_niter_4"
    olora = "olora"


# These subtract the initial adapter from the base weights.
BASE_MODIFYING_INITIALIZATIONS = (
    Initialization.pissa,
    Initialization.pissa_niter_4,
    Initialization.olora,
)


@dataclass(kw_only=True)
class AdapterConfig(ABC):
    """Trained part of a model."""

    name: ClassVar[str]

    path: str | None = None
    """Folder of a saved adapter, to continue its training or to evaluate it."""
    allow_base_mismatch: bool = False
    """Accept the adapter in `path` even if it was trained on a base with other weights."""

    @abstractmethod
    def target_modules(self, network: Network) -> list[str]:
        """Return the names of what is trained. Raises ModelError if a part matches nothing."""

    @abstractmethod
    def apply_to(self, network: Network) -> Network:
        """Make exactly `target_modules` trainable, in place, and return the network to train."""

    @abstractmethod
    def check_matches_saved(self, network: Network) -> None:
        """Raise ModelError if a network loaded from `path` was trained with other settings."""

    def quantization_bits(self) -> int | None:
        """Return the bits per weight of a quantized base; None: not quantized."""
        return None


@dataclass(kw_only=True)
class Lora(AdapterConfig):
    """LoRA: low-rank updates, in float32, of frozen linear layers."""

    name: ClassVar[str] = "lora"

    rank: Annotated[int, Ge(1)] = 16
    alpha: Annotated[int | None, Ge(1)] = None
    """The update is scaled by alpha / rank, or alpha / sqrt(rank) with rslora; null: 2 * rank."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout probability of the adapter's input; above 0, every input is stored twice."""
    rslora: bool = False
    """Scale the update by alpha / sqrt(rank), for high ranks."""
    dora: bool = False
    """DoRA: train magnitude and direction of the weights separately."""
    initialization: Initialization = Initialization.default
    """pissa, pissa_niter_4 and olora change the base weights: with the adapter disabled, the
    network is not the base model."""
    targets: list[str] = field(default_factory=lambda: ["language"])
    """Parts whose linear layers are adapted: language.attention, language.mlp, vision.attention,
    vision.mlp, projector, head (the language-model head); language and vision mean both of
    theirs."""

    def __post_init__(self) -> None:
        _check_module_groups("adapter.targets", self.targets)
        check_ranges(self, "adapter")
        if self.initialization is Initialization.orthogonal and self.rank % 2:
            raise ValueError(
                f"adapter.rank must be even with initialization=orthogonal, got {self.rank}."
            )
        if self.initialization not in BASE_MODIFYING_INITIALIZATIONS:
            return
        if self.dora:
            raise ValueError(
                f"adapter.dora does not support initialization={self.initialization.name}. Set "
                "adapter.initialization=default, gaussian or orthogonal."
            )
        if "head" in self.targets:
            raise ValueError(
                f"adapter.initialization={self.initialization.name} would change weights that the "
                "head shares with the embeddings. Remove head from adapter.targets, or set "
                "adapter.initialization=default."
            )

    def target_modules(self, network: Network) -> list[str]:
        from torch import nn

        linear = {
            name.removeprefix(PEFT_PREFIX).removesuffix(".base_layer")
            for name, module in network.named_modules()
            if isinstance(module, nn.Linear) and "lora_" not in name
        }
        return _select_names(self.targets, "adapter.targets", linear)

    def apply_to(self, network: Network) -> Network:
        from peft import LoraConfig

        target_modules = self.target_modules(network)
        default = self.initialization is Initialization.default
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._resolved_alpha(),
            lora_dropout=self.dropout,
            use_rslora=self.rslora,
            use_dora=self.dora,
            init_lora_weights=True if default else self.initialization.value,
            target_modules=target_modules,
        )
        adapted = inject_lora(network, config)
        check_adapted_modules(adapted, set(target_modules))
        if self.initialization in BASE_MODIFYING_INITIALIZATIONS:
            adapted.initial_lora_weights = {
                key: weight.detach().clone() for key, weight in lora_state_dict(adapted).items()
            }
        return adapted

    def check_matches_saved(self, network: Network) -> None:
        saved = network.peft_config["default"]
        for setting, value, saved_value in (
            ("rank", self.rank, saved.r),
            ("alpha", self._resolved_alpha(), saved.lora_alpha),
            ("dropout", self.dropout, saved.lora_dropout),
            ("rslora", self.rslora, saved.use_rslora),
            ("dora", self.dora, saved.use_dora),
            (
                "targets",
                _module_groups(self.target_modules(network)),
                _module_groups(adapted_modules(network)),
            ),
        ):
            if value != saved_value:
                raise ModelError(
                    f"adapter.{setting} must be {saved_value}, as in the adapter in {self.path}, "
                    f"got {value}."
                )

    def _resolved_alpha(self) -> int:
        return 2 * self.rank if self.alpha is None else self.alpha


@dataclass(kw_only=True)
class Qlora(Lora):
    """LoRA on a quantized language model; vision tower, projector and head are not quantized."""

    name: ClassVar[str] = "qlora"

    bits: int = 4
    """Bits per weight. 4: NF4 with double quantization; 8: int8."""
    compute_dtype: Dtype = Dtype.auto
    """Dtype to which 4-bit weights are dequantized; auto: model.dtype."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ValueError(f"adapter.bits must be 4 or 8, got {self.bits}.")
        if self.initialization not in (Initialization.default, Initialization.gaussian):
            raise ValueError(
                f"adapter.initialization={self.initialization.name} needs unquantized weights. Set "
                "adapter.initialization=default or gaussian, or adapter=lora."
            )

    def quantization_bits(self) -> int | None:
        return self.bits


@dataclass(kw_only=True)
class Full(AdapterConfig):
    """Full fine-tuning; with model.dtype=auto of float32 weights, in bf16 products on a GPU."""

    name: ClassVar[str] = "full"

    trainable_parts: list[str] = field(default_factory=lambda: ["language", "vision", "projector"])
    """Parts that are trained, named as the targets of LoRA; language and vision also include norms
    and embeddings."""

    def __post_init__(self) -> None:
        _check_module_groups("adapter.trainable_parts", self.trainable_parts)

    def target_modules(self, network: Network) -> list[str]:
        names = {name for name, _ in network.named_parameters()}
        return _select_names(self.trainable_parts, "adapter.trainable_parts", names)

    def apply_to(self, network: Network) -> Network:
        names = set(self.target_modules(network))
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in names)
        return network

    def check_matches_saved(self, network: Network) -> None:
        trained = [name for name, weight in network.named_parameters() if weight.requires_grad]
        if sorted(trained) != self.target_modules(network):
            raise ModelError(
                f"adapter.trainable_parts must be the trained parts in {self.path}, "
                f"{_module_groups(trained)}, got {self.trainable_parts}."
            )


ADAPTERS: dict[str, type[AdapterConfig]] = {
    adapter.name: adapter for adapter in (Lora, Qlora, Full)
}


def module_group(name: str) -> str | None:
    """Return the part of a module or parameter, e.g. "language.mlp".

    Norms and embeddings of the towers belong to "language.rest" and "vision.rest".
    """
    path = name.split(".")
    if "multi_modal_projector" in path:
        return "projector"
    if "lm_head" in path:
        return "head"
    for tower, module in (("language", "language_model"), ("vision", "vision_tower")):
        if module in path:
            kind = "attention" if "self_attn" in path else "mlp" if "mlp" in path else "rest"
            return f"{tower}.{kind}"
    return None


def _module_groups(names: Iterable[str]) -> list[str]:
    return sorted({str(module_group(name)) for name in names})


def _check_module_groups(key: str, groups: list[str]) -> None:
    if not groups:
        raise ValueError(f"{key} must name at least one of {', '.join(MODULE_GROUPS)}, got none.")
    valid = (*MODULE_GROUPS, *MODULE_GROUP_ALIASES)
    for group in groups:
        if group not in valid:
            raise ValueError(f"{key}: {group!r} is not one of {', '.join(valid)}")


def _select_names(groups: list[str], key: str, names: set[str]) -> list[str]:
    """Return the names in the groups. Raises ModelError if a group has none."""
    selected: set[str] = set()
    for group in groups:
        members = {name for name in names if f"{module_group(name)}.".startswith(f"{group}.")}
        if not members:
            raise ModelError(f"{key}: {group} matches nothing in this network. Remove it.")
        selected |= members
    return sorted(selected)
