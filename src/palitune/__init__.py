"""Palitune: LoRA and QLoRA fine-tuning of PaliGemma, checked before it starts, shown afterwards."""

__version__ = "0.1.0"
