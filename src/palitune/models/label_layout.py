"""Positions, targets and indices of a training batch, which follow from its tokens and labels.

They are computed on the CPU, by the collator: on a GPU the host would wait for every shape that
depends on values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from palitune.models.decoder_layers import KeptPositions, compute_position_ids
from palitune.models.lm_head import IGNORE_INDEX, label_positions


@dataclass(frozen=True)
class LabelLayout:
    """Facts about a batch that a forward pass with labels needs."""

    position_ids: Tensor
    """(batch, tokens) int64."""
    image_tokens: Tensor
    """Indices of the image tokens in the flattened batch, (image tokens,) int64."""
    keep_column: Tensor
    keep_kept: Tensor
    keep_flat: Tensor
    """Fields of `keep`."""
    position_of_label: Tensor
    """For each label in row-major order the index of its position in `keep`, (labels,) int64."""
    targets: Tensor
    """The labels in row-major order, (labels,) int64."""

    @classmethod
    def from_batch(cls, batch: Mapping[str, Tensor], image_token_id: int) -> "LabelLayout":
        """Compute the layout of a right-padded batch with `labels`, on its device."""
        ids, labels, types = batch["input_ids"], batch["labels"], batch["token_type_ids"]
        attention_mask = (
            batch["attention_mask"] if "attention_mask" in batch else ids.new_ones(ids.shape)
        )
        positions, position_of_label = label_positions(labels, types)
        keep = KeptPositions.from_mask(positions)
        return cls(
            compute_position_ids(types, attention_mask),
            (ids == image_token_id).flatten().nonzero()[:, 0],
            keep.column,
            keep.kept,
            keep.flat,
            position_of_label,
            labels[labels != IGNORE_INDEX],
        )

    @property
    def keep(self) -> KeptPositions:
        """Positions that predict labels."""
        return KeptPositions(self.keep_column, self.keep_kept, self.keep_flat)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "LabelLayout":
        """Return the layout on a device; data loaders call this."""
        return LabelLayout(
            *(getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self))
        )

    def pin_memory(self, device: str | None = None) -> "LabelLayout":
        """Return the layout in pinned memory; data loaders call this."""
        return LabelLayout(*(getattr(self, f.name).pin_memory() for f in fields(self)))
