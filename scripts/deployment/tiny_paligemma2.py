"""A random PaliGemma 2 with the processor of the embedded model."""

import json
import shutil
from pathlib import Path

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from palitune.models.config import Tiny

WIDTH = 64


def build(folder: Path) -> Path:
    """Write the checkpoint, with soft-caps low enough to matter, and return its folder."""
    shutil.copytree(Tiny().name_or_path(), folder)
    (folder / "model.safetensors").unlink()
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"] = {
        "model_type": "gemma2",
        "vocab_size": settings["text_config"]["vocab_size"],
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "query_pre_attn_scalar": 32,
        "max_position_embeddings": 1024,
        "attn_logit_softcapping": 1.0,
        "final_logit_softcapping": 30.0,
        **{name: settings[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")},
    }
    torch.manual_seed(3)
    model = PaliGemmaForConditionalGeneration(PaliGemmaConfig.from_dict(settings))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.weight.normal_(0, module.weight[0].numel() ** -0.5)
        model.get_input_embeddings().weight.normal_(0, WIDTH**-0.5)
    model.save_pretrained(folder)
    return folder
