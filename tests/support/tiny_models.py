"""Random PaliGemma and PaliGemma 2 of a fraction of a million parameters, with real processors."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)

from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import ModelConfig
from palitune.models.loading import load_for_training

sys.path.append(str(Path(__file__).parents[2] / "scripts" / "build"))  # tiny_processor

PATCH_SIZE = 14
WIDTH = 64
"""Widths are multiples of 64, so that every linear layer can be quantized in blocks."""

CORPUS = [
    "ocr",
    "detect boat ; buoy",
    "segment boat",
    "caption en",
    "answer en how many boats are there?",
    "a red boat beside two yellow buoys 0123456789",
]


def build_tiny(
    folder: Path,
    family: str,
    seed: int = 0,
    image_size: int = 112,
    sliding_window: int = 4096,
    num_layers: int = 2,
) -> Path:
    """Save a random model with its processor into `folder` and return the folder.

    `family` is "paligemma" or "paligemma2". All 1024 <loc> and 128 <seg> tokens are there, and
    linear weights are scaled by fan-in, so that logits differ from token to token.
    """
    processor = build_processor(image_size)
    model = build_model(processor, family, seed, image_size, sliding_window, num_layers)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_processor(image_size: int = 112) -> PaliGemmaProcessor:
    """Build the processor around a tokenizer trained on `CORPUS`."""
    from tiny_processor import build_tiny_processor

    return build_tiny_processor(
        CORPUS, vocab_size=384, max_length=1024, image_size=image_size, patch_size=PATCH_SIZE
    )


def build_model(
    processor: PaliGemmaProcessor,
    family: str,
    seed: int = 0,
    image_size: int = 112,
    sliding_window: int = 4096,
    num_layers: int = 2,
) -> PaliGemmaForConditionalGeneration:
    """Build the random model of a processor's vocabulary, in float32."""
    tokenizer = processor.tokenizer
    specials = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text: dict[str, Any] = {
        "model_type": "gemma",
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 1024,
        **specials,
    }
    if family == "paligemma2":
        text |= {
            "model_type": "gemma2",
            "query_pre_attn_scalar": 32,
            "sliding_window": sliding_window,
        }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": image_size,
        "patch_size": PATCH_SIZE,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=WIDTH,
        hidden_size=WIDTH,
        image_token_index=processor.image_token_id,
        vocab_size=len(tokenizer),
        **specials,
    )
    torch.manual_seed(seed)
    model = PaliGemmaForConditionalGeneration(config)
    _scale_by_fan_in(model)
    return model.eval()


def save_perturbed_adapter(
    model: ModelConfig, adapter: AdapterConfig, folder: Path, *, seed: int = 0, std: float = 0.1
) -> str:
    """Save an adapter that has moved from where it started, as after many steps."""
    torch.manual_seed(seed)
    network = load_for_training(model, adapter)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(std * torch.randn_like(parameter))
    save_adapter(network, folder, model)
    return str(folder)


@torch.no_grad()
def _scale_by_fan_in(model: nn.Module) -> None:
    """Draw linear weights with the spread that keeps activations at unit size."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.weight.normal_(0, module.weight[0].numel() ** -0.5)
    embeddings = model.get_input_embeddings().weight  # tied to the head
    embeddings.normal_(0, WIDTH**-0.5)


def reference_logits(model: Any) -> torch.Tensor:
    """Return the float32 logits of a model for a fixed random image and prompt."""
    torch.manual_seed(0)
    ids = torch.tensor([[model.config.image_token_id] * 64 + [2, 10, 11, 12]])
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(
            input_ids=ids,
            pixel_values=torch.rand(1, 3, 112, 112) * 2 - 1,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        ).logits
    return logits.float()
