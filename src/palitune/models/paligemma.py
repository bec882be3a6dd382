"""PaliGemma with what its training needs and the stock class leaves to the caller.

It refuses a forward pass without `token_type_ids` (the stock class then makes the prompt causal or
lets the suffix see its own future, silently), normalises images on the device they are on, keeps a
frozen vision tower out of autograd whatever gradient checkpointing or PEFT hooks ask for, computes
logits and losses only where they are asked for, and takes several suffixes of one prompt in a row.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.paligemma.modeling_paligemma import (
    PaliGemmaCausalLMOutputWithPast,
    PaliGemmaModel,
    PaliGemmaPreTrainedModel,
)

from palitune.models import decoder_layers, lm_head

IGNORE_INDEX = -100
"""Label of a token that no loss is taken on."""


class PatchEmbedLinear(torch.nn.Conv2d):
    """A convolution whose steps are as long as its kernel, as one matrix product over patches."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (images, channels, height, width) to (images, features, rows, columns)."""
        count, channels, height, width = images.shape
        high, wide = self.kernel_size
        rows, columns = height // high, width // wide
        grid = images[:, :, : rows * high, : columns * wide]
        grid = grid.reshape(count, channels, rows, high, columns, wide)
        patches = grid.permute(0, 2, 4, 1, 3, 5).reshape(count, rows, columns, -1)
        return F.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class PaliGemmaPrefixModel(PaliGemmaModel):  # type: ignore[misc]
    """The body without the head."""

    def __init__(self, config: PaliGemmaConfig) -> None:
        super().__init__(config)
        self.vision_tower.embeddings.patch_embedding.__class__ = PatchEmbedLinear

    def forward(self, *args: Any, token_type_ids: torch.Tensor | None = None, **kwargs: Any) -> Any:
        if token_type_ids is None:
            raise ValueError(
                "token_type_ids are missing: without them PaliGemma's mask is silently wrong; "
                "take batches from palitune.data.collator"
            )
        return super().forward(*args, token_type_ids=token_type_ids, **kwargs)

    def hidden_states_at(self, keep: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return final hidden states where `keep`, (batch, tokens) bool, is set: (kept, width)."""
        ids, types = batch["input_ids"], batch["token_type_ids"]
        real = batch.get("attention_mask", torch.ones_like(ids))
        return decoder_layers.hidden_states_at(
            self.language_model, self.input_embeddings(batch), types, real, keep
        )

    def input_embeddings(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return what the language model is given, images put in: (batch, tokens, width)."""
        ids = batch["input_ids"]
        embeddings: torch.Tensor = self.get_input_embeddings()(self._replace_image_token(ids))
        features = self._image_features(batch)
        if features is None:
            return embeddings
        features = features.to(embeddings.device, embeddings.dtype)
        slots = self.get_placeholder_mask(ids, embeddings, features)
        return embeddings.masked_scatter(slots, features)

    def _image_features(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Image features of the rows in order: (images, patches, width)."""
        if "vision_features" in batch:
            seen = batch["vision_features"].to(_float_dtype(self.multi_modal_projector))
            features: torch.Tensor = self.multi_modal_projector(seen)
        elif "pixel_values" in batch:
            features = self.get_image_features(batch["pixel_values"]).pooler_output
        else:
            return None
        return features[batch["image_index"]] if "image_index" in batch else features

    def _replace_image_token(self, ids: torch.Tensor) -> torch.Tensor:
        """Replace the image token where the embedding has no row for it."""
        image = self.config.image_token_id
        return ids.masked_fill(ids == image, 0) if image >= self.vocab_size else ids

    def get_image_features(
        self, pixel_values: torch.Tensor, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Return projected image features in `pooler_output`: (images, patches, hidden)."""
        tower = self.vision_tower
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
        pixels = normalize_pixels(pixel_values).to(_float_dtype(tower))
        with torch.set_grad_enabled(trained):
            features = tower(pixels).last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=features, pooler_output=self.multi_modal_projector(features)
        )


# Checkpoints name their tensors as older versions did; transformers renames by class name.
register_checkpoint_conversion_mapping(
    PaliGemmaPrefixModel.__name__,
    get_checkpoint_conversion_mapping(PaliGemmaModel.__name__),
    overwrite=True,
)


class PaliGemmaPrefixLM(PaliGemmaForConditionalGeneration):  # type: ignore[misc]
    """PaliGemma 1 or 2; `forward` takes what `data.collator` makes.

    pixel_values: (images, 3, height, width) uint8, or float already in [-1, 1].
    vision_features: what the vision tower makes of pixel_values, (images, patches, width), given
    instead of them.
    image_index: for each image of the rows in order, which of pixel_values it is; without it they
    are in order.
    token_type_ids: (batch, tokens), 0 on image and prefix (bidirectional), 1 on the suffix
    (causal); where a row holds several suffixes of its prefix, k on the k-th.
    labels: (batch, tokens), IGNORED where there is none; the output's `loss` is then that of each
    label, in row-major order, (labels,) float32, and there are no logits.
    logits_to_keep: (batch, tokens) bool; the logits come out as (kept, vocabulary).
    With labels or such positions rows are padded on the right; all else is the stock class.
    """

    def __init__(self, config: PaliGemmaConfig) -> None:
        PaliGemmaPreTrainedModel.__init__(self, config)
        text = config.text_config
        self.model = PaliGemmaPrefixModel(config)
        self.lm_head = torch.nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def forward(self, *, label_smoothing: float = 0.0, **batch: Any) -> Any:
        labels, logits_to_keep = batch.get("labels"), batch.get("logits_to_keep", 0)
        by_position = torch.is_tensor(logits_to_keep) and logits_to_keep.dtype == torch.bool
        if batch.get("token_type_ids") is None or (labels is None and not by_position):
            return super().forward(**batch)
        if labels is None:
            logits = self.compute_logits(self.model.hidden_states_at(logits_to_keep, batch))
            return PaliGemmaCausalLMOutputWithPast(logits=logits)
        cap = self.final_softcap
        keep, of_label = label_positions(labels, batch["token_type_ids"])
        hidden = self.model.hidden_states_at(keep, batch)[of_label]
        targets = labels[labels != IGNORE_INDEX]
        if type(self.lm_head) is torch.nn.Linear:
            weight = self.lm_head.weight
            losses = lm_head.linear_cross_entropy(hidden, weight, targets, label_smoothing, cap)
        else:
            losses = lm_head.checkpointed_cross_entropy(
                self.lm_head, hidden, targets, label_smoothing, cap
            )
        return PaliGemmaCausalLMOutputWithPast(loss=losses)

    @property
    def final_softcap(self) -> float | None:
        """Within which logits are bent, if they are."""
        cap: float | None = getattr(self.config.text_config, "final_logit_softcapping", None)
        return cap

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the scores of all tokens: (..., width) -> (..., vocabulary)."""
        return lm_head.apply_softcap(self.lm_head(hidden), self.final_softcap)

    # `generate` reads from the signature what it may pass.
    forward.__signature__ = inspect.signature(  # type: ignore[attr-defined]
        PaliGemmaForConditionalGeneration.forward
    )


def label_positions(
    labels: torch.Tensor, token_types: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell which positions predict the labels: (batch, tokens) bool, and for each label, in
    row-major order, which of them it is.

    A suffix's first token is predicted at the end of the prefix, whatever stands in between.
    """
    index = torch.arange(labels.shape[1], device=labels.device)
    follows = token_types == F.pad(token_types[:, :-1], (1, 0), value=-1)
    prefix_end = (token_types > 0).int().argmax(dim=1, keepdim=True) - 1
    source = torch.where(follows, index - 1, prefix_end)
    row, column = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[row, source[row, column]] = True
    number = keep.flatten().cumsum(0).view_as(keep) - 1
    return keep, number[row, source[row, column]]


def normalize_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Map uint8 [0, 255] to float32 [-1, 1], to the very floats of the processor (rescaled, then
    mean 0.5 and std 0.5); floats pass unchanged.
    """
    if pixels.dtype != torch.uint8:
        return pixels
    # CUDA divides by a tensor; by a number it would multiply with a rounded reciprocal.
    return pixels.float().div_(torch.full((), 127.5, device=pixels.device)).sub_(1)


def _float_dtype(module: torch.nn.Module) -> torch.dtype:
    """The dtype of the module's first float parameter: quantized weights are stored as integers."""
    return next(p.dtype for p in module.parameters() if p.dtype.is_floating_point)
