"""What is trained on top of a base model: LoRA, QLoRA, or the weights themselves.

Targets are parts of PaliGemma, resolved to module names on the network at hand. Suffix lists such
as q_proj, v_proj are never used: they hit half of the vision tower by accident.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from palitune.errors import ModelError
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
    """How LoRA starts; all but the last three of these leave the base weights as they are."""

    default = "default"
    gaussian = "gaussian"
    orthogonal = "orthogonal"
    pissa = "pissa"
    pissa_niter_4 = "pissa_niter_4"
    olora = "olora"


# These move a share of the base weights into the adapter.
BASE_MODIFYING_INITIALIZATIONS = (
    Initialization.pissa,
    Initialization.pissa_niter_4,
    Initialization.olora,
)


@dataclass(kw_only=True)
class AdapterConfig(ABC):
    """What is trained."""

    name: ClassVar[str]

    path: str | None = None
    """Folder of a saved adapter: training goes on from it, evaluation judges it."""
    allow_base_mismatch: bool = False
    """Take the adapter in `path` although it was trained on a base with other weights."""

    @abstractmethod
    def target_modules(self, network: Network) -> list[str]:
        """Name what is trained on this network. Raises ModelError where a part hits nothing."""

    @abstractmethod
    def apply_to(self, network: Network) -> Network:
        """Make exactly the hits trainable and return the network to train."""

    @abstractmethod
    def check_matches_saved(self, network: Network) -> None:
        """Refuse a network, loaded from `path`, that trains otherwise than these settings say."""

    def quantization_bits(self) -> int | None:
        """Give the bits per weight that the base is quantized to; None: it is not."""
        return None


@dataclass(kw_only=True)
class Lora(AdapterConfig):
    """Low-rank updates of frozen linear layers, in float32 whatever the base is in."""

    name: ClassVar[str] = "lora"

    rank: int = 16
    alpha: int | None = None
    """The update is scaled by alpha / rank, or alpha / sqrt(rank) with rslora; null: 2 * rank."""
    dropout: float = 0.0
    """Probability on the adapter's input; above 0 every input is kept twice in memory."""
    rslora: bool = False
    dora: bool = False
    """Learn the length of each output's weight apart from its direction."""
    initialization: Initialization = Initialization.default
    """pissa, pissa_niter_4 and olora move weights out of the base: with the adapter switched off,
    what is left is not the base model."""
    targets: list[str] = field(default_factory=lambda: ["language"])
    """Parts whose linear layers are adapted: language.attention, language.mlp, vision.attention,
    vision.mlp, projector, head (which writes tokens); language and vision stand for both of
    theirs."""

    def __post_init__(self) -> None:
        _check_module_groups("adapter.targets", self.targets)
        if self.rank < 1:
            raise ValueError(f"adapter.rank must be at least 1, not {self.rank}")
        if self.alpha is not None and self.alpha < 1:
            raise ValueError(f"adapter.alpha must be at least 1, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout must be in [0, 1), not {self.dropout}")
        if self.initialization is Initialization.orthogonal and self.rank % 2:
            raise ValueError(f"adapter.rank must be even with orthogonal, not {self.rank}")
        if self.dora and self.initialization in BASE_MODIFYING_INITIALIZATIONS:
            raise ValueError(
                f"adapter.dora does not go with initialization={self.initialization.name}; "
                "use default, gaussian or orthogonal"
            )

        if "head" in self.targets and self.initialization in BASE_MODIFYING_INITIALIZATIONS:
            raise ValueError(
                f"adapter.initialization={self.initialization.name} would move weights that the "
                "head shares with the embeddings; leave head out of adapter.targets, or use default"
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

        hits = self.target_modules(network)
        default = self.initialization is Initialization.default
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._resolved_alpha(),
            lora_dropout=self.dropout,
            use_rslora=self.rslora,
            use_dora=self.dora,
            init_lora_weights=True if default else self.initialization.value,
            target_modules=hits,
        )
        adapted = inject_lora(network, config)
        check_adapted_modules(adapted, set(hits))
        if self.initialization in BASE_MODIFYING_INITIALIZATIONS:
            adapted.initial_lora_weights = {
                key: weight.detach().clone() for key, weight in lora_state_dict(adapted).items()
            }
        return adapted

    def check_matches_saved(self, network: Network) -> None:
        saved = network.peft_config["default"]
        for setting, asked, found in (
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
            if asked != found:
                raise ModelError(
                    f"adapter.{setting} is {asked}, but the adapter in {self.path} has {found}; "
                    f"set adapter.{setting} to that"
                )

    def _resolved_alpha(self) -> int:
        return 2 * self.rank if self.alpha is None else self.alpha


@dataclass(kw_only=True)
class Qlora(Lora):
    """LoRA on a quantized language model; vision tower, projector and head stay as they are."""

    name: ClassVar[str] = "qlora"

    bits: int = 4
    """Per weight. 4: NF4 with double quantization; 8: int8."""
    compute_dtype: Dtype = Dtype.auto
    """That 4-bit weights are expanded to; auto: model.dtype."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits not in (4, 8):
            raise ValueError(f"adapter.bits must be 4 or 8, not {self.bits}")
        if self.initialization not in (Initialization.default, Initialization.gaussian):
            raise ValueError(
                f"adapter.initialization={self.initialization.name} needs unquantized weights; "
                "use default or gaussian with qlora, or adapter=lora"
            )

    def quantization_bits(self) -> int | None:
        return self.bits


@dataclass(kw_only=True)
class Full(AdapterConfig):
    """The weights themselves; give them float32, which model.dtype=auto does."""

    name: ClassVar[str] = "full"

    trainable_parts: list[str] = field(default_factory=lambda: ["language", "vision", "projector"])
    """Parts that are trained, named as LoRA's targets; language and vision as a whole hold their
    norms and embeddings too."""

    def __post_init__(self) -> None:
        _check_module_groups("adapter.trainable_parts", self.trainable_parts)

    def target_modules(self, network: Network) -> list[str]:
        names = {name for name, _ in network.named_parameters()}
        return _select_names(self.trainable_parts, "adapter.trainable_parts", names)

    def apply_to(self, network: Network) -> Network:
        trained = set(self.target_modules(network))
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in trained)
        return network

    def check_matches_saved(self, network: Network) -> None:
        trained = [name for name, weight in network.named_parameters() if weight.requires_grad]
        if sorted(trained) != self.target_modules(network):
            raise ModelError(
                f"adapter.trainable_parts is {self.trainable_parts}, but what {self.path} holds is of "
                f"{_module_groups(trained)}; set adapter.trainable_parts to the parts it was trained with"
            )


ADAPTERS: dict[str, type[AdapterConfig]] = {
    adapter.name: adapter for adapter in (Lora, Qlora, Full)
}


def module_group(name: str) -> str | None:
    """Name the part that a module or parameter belongs to.

    Norms and embeddings of the towers are "language.rest" and "vision.rest".
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
        raise ValueError(f"{key} is empty; name at least one of {', '.join(MODULE_GROUPS)}")
    for part in groups:
        if part not in MODULE_GROUPS and part not in MODULE_GROUP_ALIASES:
            raise ValueError(
                f"{key}: {part!r} is not one of {', '.join(MODULE_GROUPS + MODULE_GROUP_ALIASES)}"
            )


def _select_names(groups: list[str], key: str, names: set[str]) -> list[str]:
    """Keep the names that belong to the parts; every part must have some."""
    belongs = {name: f"{module_group(name)}." for name in names}
    for part in groups:
        if not any(owner.startswith(f"{part}.") for owner in belongs.values()):
            raise ModelError(f"{key}: {part} hits nothing in this network; leave it out")
    return sorted(
        name
        for name, owner in belongs.items()
        if any(owner.startswith(f"{part}.") for part in groups)
    )
