"""Training steps of random PaliGemma 2 models: ours, and those of transformers, PEFT and TRL.

Every step uses the same batch and weights and returns the mean loss over all suffix tokens with the
gradient of every LoRA weight. `B` of LoRA is not zero, so that no gradient is zero.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from palitune.models.adapters.config import Lora
from palitune.models.config import Device, Dtype, Local
from palitune.models.lm_head import IGNORE_INDEX
from palitune.models.loading import TORCH_DTYPES, load
from palitune.models.paligemma import normalize_pixels

from harness.paired_timing import Result

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from support.tiny_models import build_processor

IMAGE_TOKEN, PAD, BOS, EOS = 3, 0, 2, 1
FIRST_TEXT_TOKEN = 4
PATCH_SIZE = 14
PREFIX, SUFFIX = 32, 16
"""Number of tokens of the prompt (with BOS) and of a suffix (with EOS)."""

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ModelSize:
    """Dimensions of the language model and of the vision tower."""

    vocabulary: int
    width: int
    mlp: int
    layers: int
    heads: int
    key_heads: int
    head_width: int
    vision_width: int
    vision_mlp: int
    vision_layers: int
    vision_heads: int
    side: int = 224

    @property
    def image_tokens(self) -> int:
        return (self.side // PATCH_SIZE) ** 2


SIZES = {
    # As in a step of the 3B at 224 px: language model : vision tower : head = 1 : 0.21 : 0.29.
    "proportions": ModelSize(11_712, 768, 2816, 4, 4, 2, 128, 512, 2176, 2, 8),
    # The real vocabulary, for memory.
    "vocabulary": ModelSize(257_216, 512, 2048, 2, 4, 2, 64, 256, 1024, 2, 4),
    "quick": ModelSize(128, 64, 128, 2, 4, 2, 16, 64, 128, 2, 4, side=56),
    # google/paligemma2-3b-pt-224 and -448: the sizes of Gemma 2 2B and SigLIP So400m/14.
    "3b-224": ModelSize(257_216, 2304, 9216, 26, 8, 4, 256, 1152, 4304, 27, 16),
    "3b-448": ModelSize(257_216, 2304, 9216, 26, 8, 4, 256, 1152, 4304, 27, 16, side=448),
}


def save_random_model(size: ModelSize, folder: Path) -> Path:
    """Save a model with random weights, scaled by fan-in."""
    specials = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    text = {
        "model_type": "gemma2",
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "intermediate_size": size.mlp,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_heads,
        "head_dim": size.head_width,
        "query_pre_attn_scalar": size.head_width,
        "max_position_embeddings": 8192,
        **specials,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": size.vision_width,
        "intermediate_size": size.vision_mlp,
        "num_hidden_layers": size.vision_layers,
        "num_attention_heads": size.vision_heads,
        "image_size": size.side,
        "patch_size": PATCH_SIZE,
        "vision_use_head": False,
    }
    config = PaliGemmaConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=size.width,
        hidden_size=size.width,
        image_token_index=IMAGE_TOKEN,
        vocab_size=size.vocabulary,
        **specials,
    )
    torch.manual_seed(0)
    model = PaliGemmaForConditionalGeneration(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.weight.normal_(0, module.weight[0].numel() ** -0.5)
        model.get_input_embeddings().weight.normal_(0, size.width**-0.5)
    model.save_pretrained(folder)
    return folder


def synthetic_batch(size: ModelSize, rows: int, suffixes: int, device: str, seed: int = 0) -> Batch:
    """Return rows of random tokens and pixels without padding, each with `suffixes` suffixes."""
    random = torch.Generator().manual_seed(seed)
    suffix = torch.randint(
        FIRST_TEXT_TOKEN, size.vocabulary, (rows, suffixes, SUFFIX), generator=random
    )
    suffix[:, :, -1] = EOS
    prompt = torch.randint(FIRST_TEXT_TOKEN, size.vocabulary, (rows, PREFIX), generator=random)
    prompt[:, 0] = BOS
    image = torch.full((rows, size.image_tokens), IMAGE_TOKEN)
    before = torch.cat([image, prompt], dim=1)
    numbers = torch.arange(1, suffixes + 1).repeat_interleave(SUFFIX).expand(rows, -1)
    pixels = torch.randint(0, 256, (rows, 3, size.side, size.side), generator=random)
    batch = {
        "input_ids": torch.cat([before, suffix.flatten(1)], dim=1),
        "token_type_ids": torch.cat([torch.zeros_like(before), numbers], dim=1),
        "labels": torch.cat([torch.full_like(before, IGNORE_INDEX), suffix.flatten(1)], dim=1),
        "pixel_values": pixels.byte(),
    }
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    return {name: tensor.to(device) for name, tensor in batch.items()}


def unpack_suffixes(batch: Batch) -> Batch:
    """Return the same suffixes, each in its own row with image and prompt."""
    types = batch["token_type_ids"]
    rows = []
    for number in range(1, int(types.max()) + 1):
        is_kept = (types[0] == 0) | (types[0] == number)
        rows.append({k: v[:, is_kept] for k, v in batch.items() if k != "pixel_values"})
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    joined["token_type_ids"] = joined["token_type_ids"].clamp(max=1)
    return joined | {"pixel_values": batch["pixel_values"].repeat(len(rows), 1, 1, 1)}


class Ours:
    """Palitune's network with LoRA on the language model."""

    def __init__(
        self, folder: Path, device: str, dtype: Dtype, *, checkpointing: bool = False
    ) -> None:
        model = Local(
            path=str(folder), device=Device(device), dtype=dtype, final_logit_softcapping=True
        )
        self.network = Lora(rank=16).apply_to(load(model)).train()
        _randomize(self.network)
        if checkpointing:
            self.network.gradient_checkpointing_enable({"use_reentrant": False})

    def with_vision_features(self, batch: Batch) -> Batch:
        """Return the batch with the output of the vision tower instead of the pixels."""
        tower = self.network.get_base_model().model
        with torch.no_grad():
            features = tower.get_image_features(batch["pixel_values"]).last_hidden_state
        return {k: v for k, v in batch.items() if k != "pixel_values"} | {
            "vision_features": features
        }

    def step(self, batch: Batch) -> Result:
        return _backward(self.network, self.network(**batch).loss.mean())


class Stock:
    """`forward(labels=...)` with PEFT, as transformers.Trainer calls it."""

    def __init__(
        self, folder: Path, device: str, dtype: Dtype, *, checkpointing: bool = False
    ) -> None:
        from peft import LoraConfig, get_peft_model

        model: Any = PaliGemmaForConditionalGeneration.from_pretrained(
            folder, dtype=TORCH_DTYPES[dtype]
        )
        config = LoraConfig(r=16, lora_alpha=32, target_modules=Lora().target_modules(model))
        self.network: Any = get_peft_model(model.to(device), config).train()
        _randomize(self.network)
        if checkpointing:
            self.network.enable_input_require_grads()
            self.network.gradient_checkpointing_enable({"use_reentrant": False})

    def step(self, batch: Batch) -> Result:
        pixels = normalize_pixels(batch["pixel_values"])
        inputs = batch | {"pixel_values": pixels}
        return _backward(self.network, self.network(**inputs, use_cache=False).loss)


class Trl(Stock):
    """The loss of TRL's SFTTrainer on a correct batch."""

    def __init__(self, folder: Path, device: str, dtype: Dtype) -> None:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        super().__init__(folder, device, dtype)
        arguments = SFTConfig(
            output_dir=str(folder / "trl"),
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,
            gradient_checkpointing=False,
            bf16=dtype is Dtype.bf16,
            use_cpu=device == "cpu",
            report_to=[],
        )
        self.trainer = SFTTrainer(
            model=self.network,
            args=arguments,
            train_dataset=Dataset.from_dict({"row": [0]}),
            data_collator=lambda rows: rows,
            processing_class=build_processor(),
        )
        self.network = self.trainer.model

    def step(self, batch: Batch) -> Result:
        pixels = normalize_pixels(batch["pixel_values"])
        loss = self.trainer.compute_loss(self.network, batch | {"pixel_values": pixels})
        return _backward(self.network, loss)


def _randomize(network: Any) -> None:
    random = torch.Generator().manual_seed(1)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            values = torch.randn(weight.shape, generator=random) * weight.shape[1] ** -0.5
            weight.data.copy_(values * (0.1 if "lora_B" in name else 1))


def _backward(network: Any, loss: torch.Tensor) -> Result:
    network.zero_grad(set_to_none=True)
    loss.backward()
    trained = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    return float(loss.detach()), trained
