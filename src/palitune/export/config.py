"""Settings for export."""

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le

from palitune.errors import check_ranges
from palitune.export.onnx.files import OnnxQuantization
from palitune.models.adapters.combination import (
    AdapterCombination,
    CombinationType,
    MajoritySign,
)
from palitune.models.adapters.config import AdapterConfig, adapter_folder
from palitune.models.config import Dtype
from palitune.models.quantization import ExportQuantization

DEFAULT_MAX_LOGIT_ERROR = {"torch.float32": 1e-3, "torch.float16": 0.1, "torch.bfloat16": 0.5}
"""By dtype, in standard deviations of the logits. With random weights and two layers, rounding
alone causes errors of 4e-6, 0.008 and 0.06; released models have 18 to 46 layers."""


@dataclass(kw_only=True)
class ExportConfig:
    """Settings for export."""

    dtype: Dtype = Dtype.auto
    """Dtype of the exported weights (auto: that of the base model's files). The base is loaded in
    it; each merged weight is computed in fp32 and rounded once."""
    quantize: ExportQuantization = ExportQuantization.none
    """Quantize the language model to 4 bits (nf4) or 8 bits; torchao_int8 requires
    `pip install '.[torchao]'`."""
    onnx: bool = False
    """Also export to ONNX, in the layout of transformers.js; the model card shows how to use it.
    Requires `pip install '.[onnx]'`."""
    onnx_quantize: OnnxQuantization = OnnxQuantization.none
    """Weights of the ONNX files: none (float32), int8_blocks (closest, also for boxes), int8 or
    int4. The model card lists the identical answers of each part of the data."""
    demo: bool = False
    """Also write a static page that runs the model in a browser, `demo/index.html`. Requires
    onnx=true, and npm, which installs transformers.js."""
    adapters: list[str] = field(default_factory=list)
    """Folders of LoRA adapters to combine and merge, instead of `adapter.path`."""
    weights: list[float] = field(default_factory=list)
    """Weight of each of `adapters`, or of `adapter.path` (empty: 1 each)."""
    combination_type: CombinationType = CombinationType.cat
    """PEFT's rule for `adapters`. cat: weighted sum of the updates; svd: the same in the rank of
    the largest adapter. linear, ties, dare_linear, dare_ties and magnitude_prune combine the LoRA
    factors, which must have the same rank; with _svd behind it, the last four combine the updates.
    """
    density: Annotated[float | None, Gt(0), Le(1)] = None
    """Share of the values that ties, dare and magnitude_prune keep; they require it."""
    majority_sign: MajoritySign = MajoritySign.total
    """Sign that ties keeps where adapters differ. total: that of their sum; frequency: that of
    most adapters."""
    rank: Annotated[int | None, Ge(1)] = None
    """Reduce the adapter to this rank by SVD, and report what is lost (null: no reduction)."""
    samples: Annotated[int, Ge(1)] = 8
    """Number of prompts for the parity check: the first examples of each component of `data`. With
    `image` there is one prompt; without both, one for a page of handwritten digits."""
    image: str | None = None
    """Use this image for the parity check instead of `data`."""
    prompt: str | None = None
    """Prompt for `image` or the page of digits (null: caption en)."""
    max_new_tokens: Annotated[int, Ge(1)] = 32
    """Maximum number of tokens to generate per prompt."""
    max_logit_error: Annotated[float | None, Ge(0)] = None
    """Maximum difference of a logit between the export and the base model with adapter, in standard
    deviations of the logits (null: by dtype; no limit for a quantized export)."""
    push_to_hub: str | None = None
    """Hugging Face repository to upload the export to, e.g. me/boats (null: no upload)."""
    private: bool = True
    """Create the repository as private."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError(
                "prompt must not be empty. Set a prompt, or remove it to use 'caption en'."
            )
        if self.onnx and self.quantize is not ExportQuantization.none:
            raise ValueError(
                f"onnx=true requires quantize=none, got {self.quantize.value}. Set onnx_quantize "
                "instead, or export twice."
            )
        if self.demo and not self.onnx:
            raise ValueError("demo=true requires onnx=true. Set onnx=true.")
        if self.demo and shutil.which("npm") is None:
            raise ValueError("demo=true requires npm. Install Node.js, or remove demo=true.")
        if self.onnx_quantize is not OnnxQuantization.none and not self.onnx:
            raise ValueError(
                f"onnx_quantize={self.onnx_quantize.value} requires onnx=true. Set onnx=true."
            )
        if self.onnx:
            _check_installed("onnx=true", "onnx", ("onnx", "onnx_ir", "onnxruntime"))
        if self.quantize is ExportQuantization.torchao_int8:
            _check_installed("quantize=torchao_int8", "torchao", ("torchao",))

    def adapter_combination(self, adapter: AdapterConfig, seed: int = 0) -> AdapterCombination:
        """Return the adapters to merge, and how. Raises ValueError for settings that contradict.

        Args:
            adapter: Adapter of the run, which is merged if `adapters` is empty.
            seed: Seed of the values that DARE drops.
        """
        paths = self.adapters or ([adapter.path] if adapter.path else [])
        if not paths:
            raise ValueError(
                "adapter.path is missing. Set adapter.path=FOLDER, or use --run with the run "
                "folder of a training run."
            )
        return AdapterCombination(
            paths=[adapter_folder(path) for path in paths],
            weights=self.weights,
            combination_type=self.combination_type,
            density=self.density,
            majority_sign=self.majority_sign,
            rank=self.rank,
            seed=seed,
            allow_base_mismatch=adapter.allow_base_mismatch,
        )

    def max_logit_error_for(self, dtype: str) -> float | None:
        """Return the limit for exported weights of this dtype; None: no limit."""
        if self.max_logit_error is not None or self.quantize is not ExportQuantization.none:
            return self.max_logit_error
        return DEFAULT_MAX_LOGIT_ERROR[dtype]


def _check_installed(setting: str, extra: str, packages: Sequence[str]) -> None:
    absent = [name for name in packages if not importlib.util.find_spec(name)]
    if absent:
        raise ValueError(
            f"{setting} requires {', '.join(absent)}. Install with: pip install '.[{extra}]'"
        )
