"""Settings for combining several LoRA adapters of one base, and for reducing the rank."""

import math
from dataclasses import dataclass, field, replace
from enum import Enum


class CombinationType(Enum):
    """PEFT's rule for combining adapters."""

    cat = "cat"  # concatenate: the exact weighted sum, for any ranks
    linear = "linear"  # weighted sum of the factors, for equal ranks
    svd = "svd"  # best approximation of the weighted sum by a rank
    ties = "ties"
    ties_svd = "ties_svd"
    dare_linear = "dare_linear"
    dare_linear_svd = "dare_linear_svd"
    dare_ties = "dare_ties"
    dare_ties_svd = "dare_ties_svd"
    magnitude_prune = "magnitude_prune"
    magnitude_prune_svd = "magnitude_prune_svd"

    @property
    def prunes(self) -> bool:
        """Whether the rule keeps the share `density` of the values only."""
        return self not in (CombinationType.cat, CombinationType.linear, CombinationType.svd)

    @property
    def is_svd(self) -> bool:
        """Whether the rule combines the products of the factors, for any ranks."""
        return self.value.endswith("svd")

    @property
    def needs_equal_ranks(self) -> bool:
        """Whether the rule combines the factors value by value."""
        return not self.is_svd and self is not CombinationType.cat


class MajoritySign(Enum):
    """Sign that TIES keeps where the adapters differ."""

    total = "total"  # sign of the sum
    frequency = "frequency"  # sign of most adapters


@dataclass(frozen=True, kw_only=True)
class AdapterCombination:
    """Adapter folders, their weights, and how to combine them."""

    paths: list[str]
    weights: list[float] = field(default_factory=list)
    """One per path; empty: each weight is 1."""
    combination_type: CombinationType = CombinationType.cat
    density: float | None = None
    """Share of the values that a pruning rule keeps."""
    majority_sign: MajoritySign = MajoritySign.total
    rank: int | None = None
    """Rank of the result; None: as the rule has it."""
    seed: int = 0
    """Seed of the values that DARE drops."""
    allow_base_mismatch: bool = False

    def __post_init__(self) -> None:
        rule, count = self.combination_type, len(self.paths)
        if self.weights and len(self.weights) != count:
            raise ValueError(
                f"weights must have one number per adapter ({count}), got {len(self.weights)}."
            )
        if self.weights and not (all(map(math.isfinite, self.weights)) and any(self.weights)):
            raise ValueError(
                f"weights must be finite numbers and not all 0, got {self.weights}. Set weights=[] "
                "for 1 each."
            )
        if rule is not CombinationType.cat and count < 2:
            raise ValueError(
                f"combination_type={rule.value} requires several adapters, got {count}. Set "
                "adapters=[FOLDER,FOLDER]."
            )
        if rule.prunes and self.density is None:
            raise ValueError(
                f"combination_type={rule.value} requires density, the share of values to keep. Set "
                "density=0.5."
            )
        if not rule.prunes and self.density is not None:
            raise ValueError(
                f"density={self.density:g} is used by the rules that drop values only, got "
                f"combination_type={rule.value}. Set combination_type=ties, or remove density."
            )

    @property
    def is_one_unchanged(self) -> bool:
        """Whether the result is the only adapter as it was saved."""
        return len(self.paths) == 1 and not self.weights and self.rank is None

    @property
    def reduces_rank(self) -> bool:
        """Whether the result has another rank than the adapters together."""
        return self.rank is not None or self.combination_type.is_svd

    def full_rank(self) -> "AdapterCombination | None":
        """Return the combination whose rank is not reduced; None if none is, or it is no LoRA."""
        rule = self.combination_type
        if rule is CombinationType.svd:
            return replace(self, combination_type=CombinationType.cat, rank=None)
        return None if self.rank is None or rule.is_svd else replace(self, rank=None)


@dataclass(frozen=True, kw_only=True)
class RankReduction:
    """Rank of a combined adapter, and the part of the update that it holds."""

    rank: int
    kept_update: float
    """Share of the squared norm of the update, over all layers."""
