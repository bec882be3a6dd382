"""Combination and rank reduction of LoRA updates, layer by layer.

The rules and their names are those of PEFT's `add_weighted_adapter`: TIES (arXiv 2306.01708), DARE
(arXiv 2311.03099), pruning by magnitude, on the two factors or, with `_svd`, on their product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palitune.models.adapters.combination import CombinationType, MajoritySign


@dataclass(frozen=True)
class LoraUpdate:
    """The update `scale * b @ a` of a linear layer's weight."""

    a: Tensor
    """(rank, inputs)"""
    b: Tensor
    """(outputs, rank)"""
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return len(self.a)

    def product(self) -> Tensor:
        """Return the update: (outputs, inputs)."""
        return (self.b @ self.a) * self.scale


@dataclass(frozen=True)
class ReducedUpdate:
    """An update, and how much of it a rank reduction kept."""

    update: LoraUpdate
    kept: float
    """Squared norm of the update."""
    total: float
    """Squared norm before the reduction."""


def combine_updates(
    updates: Sequence[LoraUpdate],
    weights: Sequence[float],
    rule: CombinationType,
    *,
    density: float,
    majority_sign: MajoritySign,
    rank: int | None,
) -> ReducedUpdate:
    """Combine the updates of one layer by several adapters, as PEFT does.

    Args:
        updates: The layer's update by each adapter that has one.
        weights: Weight of each update.
        rule: Combination rule.
        density: Share of the values that a pruning rule keeps.
        majority_sign: Elected sign of TIES.
        rank: Maximum rank of the result; None: no reduction.
    """
    if rule.is_svd and rule.prunes:
        product = _merge(
            [update.product() for update in updates],
            list(weights),
            rule,
            density,
            majority_sign,
        )
        left, values, right = torch.linalg.svd(product, full_matrices=False)
        return _truncate(left, values, right, rank)
    if rule.needs_equal_ranks:
        combined = _combine_factors(updates, weights, rule, density, majority_sign)
    else:
        weighted = [u.a * (weight * u.scale) for u, weight in zip(updates, weights, strict=True)]
        combined = LoraUpdate(torch.cat(weighted), torch.cat([u.b for u in updates], dim=1))
    return reduce_rank(combined, rank)


def reduce_rank(update: LoraUpdate, rank: int | None) -> ReducedUpdate:
    """Return the nearest update of a rank, exact without a product of the layer's size.

    The factors' QR decompositions leave a small square matrix with the same singular values.
    """
    if rank is None or update.rank <= rank:
        norm = float((update.b.T @ update.b * (update.a @ update.a.T)).sum()) * update.scale**2
        return ReducedUpdate(update, norm, norm)
    basis_b, small_b = torch.linalg.qr(update.b)
    basis_a, small_a = torch.linalg.qr(update.a.T)
    left, values, right = torch.linalg.svd(small_b @ small_a.T * update.scale)
    return _truncate(basis_b @ left, values, right @ basis_a.T, rank)


def _truncate(left: Tensor, values: Tensor, right: Tensor, rank: int | None) -> ReducedUpdate:
    """Keep the largest singular values, in the first factor as PEFT does."""
    squares = values.double().square()
    return ReducedUpdate(
        LoraUpdate(right[:rank].contiguous(), (left * values)[:, :rank].contiguous()),
        float(squares[:rank].sum()),
        float(squares.sum()),
    )


def _combine_factors(
    updates: Sequence[LoraUpdate],
    weights: Sequence[float],
    rule: CombinationType,
    density: float,
    majority_sign: MajoritySign,
) -> LoraUpdate:
    """Combine the factors, each weighted by the root of its adapter's weight and scale."""
    scales = [weight * update.scale for update, weight in zip(updates, weights, strict=True)]
    roots = [abs(scale) ** 0.5 for scale in scales]
    signed = [root if scale >= 0 else -root for root, scale in zip(roots, scales, strict=True)]
    return LoraUpdate(
        _merge([update.a for update in updates], signed, rule, density, majority_sign),
        _merge([update.b for update in updates], roots, rule, density, majority_sign),
    )


def _merge(
    tensors: list[Tensor],
    weights: list[float],
    rule: CombinationType,
    density: float,
    majority_sign: MajoritySign,
) -> Tensor:
    """Merge tensors of one shape by PEFT's functions."""
    from peft.utils import merge_utils

    name = "task_arithmetic" if rule is CombinationType.linear else rule.value.removesuffix("_svd")
    settings: dict[str, object] = {"density": density} if rule.prunes else {}
    if "ties" in name:
        settings["majority_sign_method"] = majority_sign.value
    weight_tensor = torch.tensor(weights, device=tensors[0].device)
    merged: Tensor = getattr(merge_utils, name)(tensors, weight_tensor, **settings)
    return merged
