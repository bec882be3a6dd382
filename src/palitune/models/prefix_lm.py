"""PaliGemma with the three things its training needs and the stock class leaves to the caller.

It refuses a forward pass without `token_type_ids` (the stock class then makes the prompt causal or
lets the suffix see its own future, silently), normalises images on the device they are on, and
keeps a frozen vision tower out of autograd whatever gradient checkpointing or PEFT hooks ask for.
"""

from typing import Any

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.paligemma.modeling_paligemma import (
    PaliGemmaModel,
    PaliGemmaPreTrainedModel,
)


class PrefixModel(PaliGemmaModel):  # type: ignore[misc]
    """The body without the head; both `forward` and `generate` encode images through it."""

    def forward(self, *args: Any, token_type_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if token_type_ids is None:
            raise ValueError(
                "token_type_ids are missing: without them PaliGemma's mask is silently wrong; "
                "take batches from palitune.data.collator"
            )
        return super().forward(*args, token_type_ids=token_type_ids, **kwargs)

    def get_image_features(
        self, pixel_values: torch.Tensor, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Return projected image features in `pooler_output`: (images, patches, hidden)."""
        tower = self.vision_tower
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
        pixels = normalize(pixel_values).to(_float_dtype(tower))
        with torch.set_grad_enabled(trained):
            features = tower(pixels).last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=features, pooler_output=self.multi_modal_projector(features)
        )


# Checkpoints name their tensors as older versions did; transformers renames by class name.
register_checkpoint_conversion_mapping(
    PrefixModel.__name__, get_checkpoint_conversion_mapping(PaliGemmaModel.__name__), overwrite=True
)


class PrefixLM(PaliGemmaForConditionalGeneration):  # type: ignore[misc]
    """PaliGemma 1 or 2; `forward` takes what `data.collator` makes, without the labels.

    pixel_values: (images, 3, height, width) uint8, or float already in [-1, 1].
    token_type_ids: (batch, tokens), 0 on image and prefix (bidirectional), 1 on suffix (causal).
    logits_to_keep: (batch, tokens) bool; the logits come out as (kept, vocabulary).
    """

    def __init__(self, config: PaliGemmaConfig) -> None:
        PaliGemmaPreTrainedModel.__init__(self, config)
        text = config.text_config
        self.model = PrefixModel(config)
        self.lm_head = torch.nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, pixel_values: torch.Tensor | None = None, **inputs: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Repeat every row for its beams; the stock class would tear its images apart."""
        if pixel_values is not None and expand_size > 1:
            marks = (inputs["input_ids"] == self.config.image_token_id).sum(1)
            images = (marks * len(pixel_values) // marks.sum()).tolist()
            rows = torch.split(pixel_values, images)
            pixel_values = torch.cat([row for row in rows for _ in range(expand_size)])
        ids, inputs = super()._expand_inputs_for_generation(expand_size=expand_size, **inputs)
        return ids, inputs | {"pixel_values": pixel_values}


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 [0, 255] to float32 [-1, 1], as mean 0.5 and std 0.5 do; floats pass unchanged."""
    return pixels.float() / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels


def _float_dtype(module: torch.nn.Module) -> torch.dtype:
    """The dtype of the module's first float parameter: quantized weights are stored as integers."""
    return next(p.dtype for p in module.parameters() if p.dtype.is_floating_point)
