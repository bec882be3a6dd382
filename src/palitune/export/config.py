"""What is made of a trained adapter, and how far it may be from it."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field

from palitune.models.adapters.combination import AdapterCombination, CombinationType
from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import Dtype
from palitune.models.quantization import ExportQuantization

DEFAULT_MAX_LOGIT_ERROR = {"torch.float32": 1e-3, "torch.float16": 0.1, "torch.bfloat16": 0.5}
"""By dtype, in standard deviations of the logits. Rounding alone moved them by 4e-6, 0.008 and 0.06
on random weights of two layers; released models have 18 to 46."""


@dataclass(kw_only=True)
class ExportConfig:
    """The settings of an export."""

    dtype: Dtype = Dtype.auto
    """Of the exported weights; auto: as the base model's files have them. Merging is in fp32."""
    quantize: ExportQuantization = ExportQuantization.none
    """Store the language model in 4 (nf4) or 8 bits; torchao_int8 needs
    `pip install '.[torchao]'`."""
    onnx: bool = False
    """Also write the model for ONNX Runtime, in fp32: onnx/vision.onnx and onnx/language.onnx; the
    model card shows how they are used. Needs `pip install '.[onnx]'`."""
    adapters: list[str] = field(default_factory=list)
    """Folders of LoRA adapters to merge as one, instead of `adapter.path`."""
    weights: list[float] = field(default_factory=list)
    """How much each of `adapters` counts; empty: each in full."""
    combination_type: CombinationType = CombinationType.cat
    """cat: the weighted sum of what the adapters do; linear: of their factors, which must be of one
    rank, and whose products then mix."""
    samples: int = 8
    """Prompts to compare on: the first of each part of `data`, or `image` with `prompt`, or, with
    neither, a page of handwritten digits."""
    image: str | None = None
    """Compare on this image instead of `data`."""
    prompt: str | None = None
    """What `image` or that page is asked; null: caption en."""
    max_new_tokens: int = 32
    """Tokens generated for each prompt."""
    max_logit_error: float | None = None
    """Largest difference of a logit, in standard deviations of the logits, between base with
    adapter and export; null: by dtype, and none where the export is quantized."""
    push_to_hub: str | None = None
    """Repository to upload the export to, e.g. me/boats; null: it stays here."""
    private: bool = True
    """Whether a repository that is made for it is private."""

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.adapters):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.adapters)} adapters; "
                "give one for each"
            )
        for name in ("samples", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_logit_error is not None and not self.max_logit_error >= 0:
            raise ValueError(f"max_logit_error must be at least 0, not {self.max_logit_error}")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("prompt is empty; write what the image is asked, or leave it out")
        if self.onnx and self.quantize is not ExportQuantization.none:
            raise ValueError(
                f"onnx=true writes fp32, and quantize={self.quantize.value} would have it of "
                "rounded weights; export twice"
            )
        if self.onnx:
            _check_installed("onnx=true", "onnx", ("onnx", "onnxruntime"))
        if self.quantize is ExportQuantization.torchao_int8:
            _check_installed("quantize=torchao_int8", "torchao", ("torchao",))

    def adapter_combination(self, adapter: AdapterConfig) -> AdapterCombination:
        """Name the adapters to merge. Raises ValueError where there is none."""
        paths = self.adapters or ([adapter.path] if adapter.path else [])
        if not paths:
            raise ValueError(
                "adapter.path is missing: write adapter.path=FOLDER, or --run with the folder of a "
                "training"
            )
        return AdapterCombination(
            paths=paths,
            weights=self.weights,
            combination_type=self.combination_type,
            allow_base_mismatch=adapter.allow_base_mismatch,
        )

    def max_logit_error_for(self, dtype: str) -> float | None:
        """Give the bound that holds for exported weights of this dtype."""
        if self.max_logit_error is not None or self.quantize is not ExportQuantization.none:
            return self.max_logit_error
        return DEFAULT_MAX_LOGIT_ERROR[dtype]


def _check_installed(setting: str, extra: str, packages: Sequence[str]) -> None:
    if missing := [name for name in packages if not importlib.util.find_spec(name)]:
        raise ValueError(f"{setting} needs {', '.join(missing)}: pip install '.[{extra}]'")
