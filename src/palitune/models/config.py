"""Base models by name: the released PaliGemma checkpoints, a local folder, the embedded model."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from peft import PeftModel

    from palitune.models.paligemma import PaliGemmaPrefixLM

    Network = PaliGemmaPrefixLM | PeftModel
else:
    Network = Any  # annotation only: importing this module loads neither torch nor PEFT


class Dtype(Enum):
    # Names equal values: configurations contain the names of an enum's members.
    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"
    fp16 = "fp16"


class AttentionImplementation(Enum):
    auto = "auto"
    eager = "eager"
    sdpa = "sdpa"
    chunked = "chunked"


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


# Released on the hub as google/<family>-<size>-<variant>-<resolution>, gated by Gemma's licence.
# Sources: the model cards and https://huggingface.co/blog/paligemma, /paligemma2, /paligemma2mix.
RELEASED_CHECKPOINTS: dict[str, dict[tuple[str, str], tuple[int, ...]]] = {
    "paligemma": {
        ("3b", "pt"): (224, 448, 896),
        ("3b", "mix"): (224, 448),
    },
    "paligemma2": {
        ("3b", "pt"): (224, 448, 896),
        ("10b", "pt"): (224, 448, 896),
        ("28b", "pt"): (224, 448, 896),
        ("3b", "mix"): (224, 448),
        ("10b", "mix"): (224, 448),
        ("28b", "mix"): (224, 448),
        ("3b", "ft-docci"): (448,),
        ("10b", "ft-docci"): (448,),
    },
}

# Checked here for released checkpoints, and in `loading` for local folders of either family.
FINAL_SOFTCAP_ERROR = (
    "model.final_logit_softcapping must be false for PaliGemma 1, which has no soft-cap."
)
FP16_ERROR = "model.dtype must be bf16 or fp32 for Gemma 2, which overflows in fp16."
SDPA_SOFTCAP_ERROR = (
    "model.attention=sdpa cannot soft-cap attention scores. Set model.attention=chunked, or "
    "model.attention_logit_softcapping=false."
)


@dataclass(kw_only=True)
class ModelConfig(ABC):
    """Base model, device, dtype and attention."""

    name: ClassVar[str]

    revision: str = "main"
    """Branch, tag or commit on the Hugging Face hub; not used for a local folder."""
    device: Device = Device.auto
    """auto: the GPU if there is one. CUDA_VISIBLE_DEVICES=N selects another than the first."""
    dtype: Dtype = Dtype.auto
    """Dtype of the base weights. auto: on a CPU fp32; on a GPU bf16, or before Ampere fp16 (with
    loss scaling) for PaliGemma 1 and fp32 for PaliGemma 2, which overflows in fp16; with
    adapter=full fp32 weights whose products are computed in bf16 on a GPU."""
    attention: AttentionImplementation = AttentionImplementation.auto
    """Attention of the language model. auto: sdpa, or chunked if attention scores are soft-capped
    (exact, with memory linear in the number of tokens); eager: slow reference."""
    attention_logit_softcapping: bool = True
    """Apply the checkpoint's soft-cap to attention scores (PaliGemma 2: 50)."""
    final_logit_softcapping: bool = False
    """Apply the checkpoint's soft-cap to the output logits (PaliGemma 2: 30); the reference leaves
    it off in fine-tuning. Saved with an adapter and restored with it."""

    @abstractmethod
    def name_or_path(self) -> str:
        """Return the hub id or the folder of the model."""

    def on_hub(self) -> bool:
        """Return whether `name_or_path` is a hub id."""
        return False


@dataclass(kw_only=True)
class Released(ModelConfig):
    """Checkpoint released by Google, one of RELEASED_CHECKPOINTS."""

    size: str = "3b"
    """Number of parameters in the checkpoint's name: 3b, 10b or 28b."""
    variant: str = "pt"
    """pt: pre-trained, for fine-tuning; mix: tuned on many tasks; ft-docci: long captions."""
    resolution: int = 224
    """Side of the square image, in pixels."""
    path: str | None = None
    """Folder with the checkpoint's files, used instead of the hub."""

    def __post_init__(self) -> None:
        table = RELEASED_CHECKPOINTS[self.name]
        if self.resolution not in table.get((self.size, self.variant), ()):
            raise ValueError(
                f"model: {self.name} was not released as size={self.size} variant={self.variant} "
                f"resolution={self.resolution}; released are {_format_variants(table)}"
            )

    def name_or_path(self) -> str:
        return self.path or f"google/{self.name}-{self.size}-{self.variant}-{self.resolution}"

    def on_hub(self) -> bool:
        return self.path is None


@dataclass(kw_only=True)
class PaliGemma(Released):
    """PaliGemma (2024): SigLIP and Gemma 1, without soft-caps."""

    name: ClassVar[str] = "paligemma"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_logit_softcapping:
            raise ValueError(FINAL_SOFTCAP_ERROR)


@dataclass(kw_only=True)
class PaliGemma2(Released):
    """PaliGemma 2 (2024): SigLIP and Gemma 2."""

    name: ClassVar[str] = "paligemma2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype is Dtype.fp16:
            raise ValueError(FP16_ERROR)
        if self.attention is AttentionImplementation.sdpa and self.attention_logit_softcapping:
            raise ValueError(SDPA_SOFTCAP_ERROR)


@dataclass(kw_only=True)
class Local(ModelConfig):
    """PaliGemma 1 or 2 in a local folder."""

    name: ClassVar[str] = "local"

    path: str
    """Folder with config.json, safetensors weights, and the processor's files."""

    def name_or_path(self) -> str:
        return self.path


@dataclass(kw_only=True)
class Tiny(ModelConfig):
    """Tiny PaliGemma that ships with the package: reads digits on small pages, on any CPU."""

    name: ClassVar[str] = "tiny"

    def name_or_path(self) -> str:
        return str(Path(__file__).parents[1] / "embedded" / "tiny_model")


MODELS: dict[str, type[ModelConfig]] = {
    model.name: model for model in (PaliGemma, PaliGemma2, Local, Tiny)
}


def _format_variants(variants: dict[tuple[str, str], tuple[int, ...]]) -> str:
    return ", ".join(
        f"{size} {variant} at {'/'.join(map(str, resolutions))}"
        for (size, variant), resolutions in variants.items()
    )
