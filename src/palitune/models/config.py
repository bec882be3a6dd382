"""The base models by name: every released PaliGemma, a folder of one's own, the embedded one.

Whatever the name, `source()` says where the files are and `loading.load` reads them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

Network = Any
"""A PrefixLM, or the PeftModel around one."""


class Dtype(Enum):
    """Names equal values because a configuration names an enum's members."""

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


@dataclass(kw_only=True)
class ModelConfig(ABC):
    """Which base model, and how it runs."""

    name: ClassVar[str]

    revision: str = "main"
    """Branch, tag or commit on the hub; a folder has none."""
    device: Device = Device.auto
    """auto: the GPU where there is one."""
    dtype: Dtype = Dtype.auto
    """Of the base model's weights; auto: bf16 on a GPU, fp32 on the CPU and for adapter=full."""
    attention: AttentionImplementation = AttentionImplementation.auto
    """Kernel of the language model. auto: sdpa, or chunked where attention scores are soft-capped
    (exact, memory linear in the tokens); eager is the slow oracle."""
    attention_logit_softcapping: bool = True
    """Whether the checkpoint's soft-cap on attention scores (PaliGemma 2: 50) is applied."""
    final_logit_softcapping: bool = False
    """Whether the checkpoint's soft-cap on the output logits (PaliGemma 2: 30) is applied; the
    reference leaves it off in transfers. Saved with an adapter and applied again with it."""

    @abstractmethod
    def name_or_path(self) -> str:
        """Give the hub id or the folder that the model is read from."""

    def on_hub(self) -> bool:
        """Tell whether `source` is a hub id."""
        return False


@dataclass(kw_only=True)
class Released(ModelConfig):
    """A checkpoint that Google released; every field is checked against the table."""

    size: str = "3b"
    """Parameters, as the checkpoint is called: 3b, 10b, 28b."""
    variant: str = "pt"
    """pt: pre-trained, made to be fine-tuned; mix: a mixture of tasks; ft-docci: long captions."""
    resolution: int = 224
    """Side of the square image, in pixels."""
    path: str | None = None
    """Folder with the checkpoint's files, read instead of the hub."""

    def __post_init__(self) -> None:
        table = RELEASED_CHECKPOINTS[self.name]
        if self.resolution not in table.get((self.size, self.variant), ()):
            raise ValueError(
                f"model: {self.name} was not released as size={self.size} variant={self.variant} "
                f"resolution={self.resolution}; there are {_format_variants(table)}"
            )

    def name_or_path(self) -> str:
        return self.path or f"google/{self.name}-{self.size}-{self.variant}-{self.resolution}"

    def on_hub(self) -> bool:
        return self.path is None


@dataclass(kw_only=True)
class PaliGemma(Released):
    """PaliGemma (2024): SigLIP and Gemma 1; it has no soft-caps."""

    name: ClassVar[str] = "paligemma"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_logit_softcapping:
            raise ValueError(
                "model.final_logit_softcapping: PaliGemma 1 has no soft-cap; leave it false"
            )


@dataclass(kw_only=True)
class PaliGemma2(Released):
    """PaliGemma 2 (2024): SigLIP and Gemma 2."""

    name: ClassVar[str] = "paligemma2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype is Dtype.fp16:
            raise ValueError("model.dtype: Gemma 2 overflows in fp16; use bf16 or fp32")
        if self.attention is AttentionImplementation.sdpa and self.attention_logit_softcapping:
            raise ValueError(
                "model.attention: sdpa cannot soft-cap attention scores; use chunked, or set "
                "model.attention_logit_softcapping=false"
            )


@dataclass(kw_only=True)
class Local(ModelConfig):
    """A PaliGemma of either family in a folder of one's own."""

    name: ClassVar[str] = "local"

    path: str
    """Folder with config.json, the weights as safetensors, and the processor's files."""

    def name_or_path(self) -> str:
        return self.path


@dataclass(kw_only=True)
class Tiny(ModelConfig):
    """The PaliGemma that ships with the package: it reads digits on small pages, on any CPU."""

    name: ClassVar[str] = "tiny"

    def name_or_path(self) -> str:
        return str(Path(__file__).parents[1] / "embedded" / "tiny_model")


MODELS: dict[str, type[ModelConfig]] = {
    model.name: model for model in (PaliGemma, PaliGemma2, Local, Tiny)
}


def _format_variants(variants: dict[tuple[str, str], tuple[int, ...]]) -> str:
    return ", ".join(
        f"{size} {stage} at {'/'.join(map(str, resolutions))}"
        for (size, stage), resolutions in variants.items()
    )
