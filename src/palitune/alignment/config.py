"""Settings for GRPO, RLOO and DPO."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from palitune.errors import check_ranges

SAMPLED_PAIRS = "sampled"


class AlignmentMethod(Enum):
    grpo = "grpo"
    """Sample several generations per prompt; raise the probability of those above the group's mean
    reward, in units of the group's standard deviation."""
    rloo = "rloo"
    """Like grpo, but compare each generation with the mean reward of the others in its group."""
    dpo = "dpo"
    """Raise the probability of the chosen text of a pair relative to the rejected one."""


DEFAULT_BETAS = {AlignmentMethod.grpo: 0.04, AlignmentMethod.rloo: 0.05, AlignmentMethod.dpo: 0.1}


@dataclass(kw_only=True)
class AlignmentConfig:
    """Preference and reward tuning; `task.reward_weights` sets the reward."""

    method: AlignmentMethod = AlignmentMethod.grpo
    """GRPO or RLOO (rewards of sampled generations), or DPO (preference pairs)."""
    num_generations: Annotated[int, Ge(2)] = 8
    """Generations per prompt (TRL's num_generations). With grpo and rloo training.global_batch_size
    counts generations over all devices and must be a multiple of it."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Sampling temperature (TRL's temperature); grpo and rloo also train the probabilities at it.
    Lower it if sampled generations are much worse than greedy ones, e.g. after label smoothing."""
    beta: Annotated[float | None, Ge(0)] = None
    """Weight of the divergence from the initial model (TRL's beta); null: 0.04 for grpo, 0.05 for
    rloo, 0.1 for dpo."""
    epsilon: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Clipping range of the probability ratio (TRL's epsilon); grpo and rloo."""
    pairs: str = SAMPLED_PAIRS
    """Preference pairs of dpo: `sampled` (the generations of a prompt with the highest and the
    lowest reward), or a JSON Lines file with image, prefix, chosen and rejected."""
    sampled_prompts: Annotated[int, Ge(1)] = 1000
    """Maximum prompts to sample pairs from; each is used once."""
    margin: Annotated[float, Gt(0), Le(1)] = 0.1
    """Minimum difference of rewards between chosen and rejected in a sampled pair."""
    num_completions_to_print: Annotated[int, Ge(0)] = 4
    """Prompts with generations to show in the report at each of six steps of the run (TRL prints
    them)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.beta == 0 and self.method is AlignmentMethod.dpo:
            raise ValueError("beta must be above 0 with method=dpo, got 0.")
        if self.method is not AlignmentMethod.dpo and self.pairs != SAMPLED_PAIRS:
            raise ValueError(f"pairs={self.pairs} requires method=dpo, got {self.method.value}.")

    @property
    def effective_beta(self) -> float:
        """`beta`, or the default of the method."""
        return DEFAULT_BETAS[self.method] if self.beta is None else self.beta
