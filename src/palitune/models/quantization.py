"""Quantization settings of the language model."""

from enum import Enum
from typing import Any

# bitsandbytes matches prefixes of full module names, so that "vision_tower" alone would match
# nothing. The list replaces the default, so it has to contain the head.
QUANTIZATION_SKIP_MODULES = ["model.vision_tower", "model.multi_modal_projector", "lm_head"]


class ExportQuantization(Enum):
    """Quantization of an exported language model."""

    none = "none"
    nf4 = "nf4"
    int8 = "int8"
    torchao_int8 = "torchao_int8"

    def quantization_config(self, compute_dtype: Any) -> Any:
        """Return the `quantization_config` of transformers."""
        if self is not ExportQuantization.torchao_int8:
            return bitsandbytes_config(4 if self is ExportQuantization.nf4 else 8, compute_dtype)
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        return TorchAoConfig(
            Int8WeightOnlyConfig(), modules_to_not_convert=QUANTIZATION_SKIP_MODULES
        )


def bitsandbytes_config(bits: int, compute_dtype: Any) -> Any:
    """Return bitsandbytes settings; 4 bits: NF4 with double quantization, 8 bits: int8."""
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(
            load_in_8bit=True, llm_int8_skip_modules=QUANTIZATION_SKIP_MODULES
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=QUANTIZATION_SKIP_MODULES,
    )
