"""What is told of preferences and rewards: one field, one sentence, one default."""

from dataclasses import dataclass
from enum import Enum

SAMPLED_PAIRS = "sampled"


class AlignmentMethod(Enum):
    grpo = "grpo"
    """Several answers to each prompt are sampled; those above the group's mean reward become
    likelier, in units of the group's spread."""
    rloo = "rloo"
    """The same, each answer against the mean reward of the others of its group."""
    dpo = "dpo"
    """Of pairs of answers the chosen one becomes likelier than the rejected one."""


DEFAULT_BETAS = {AlignmentMethod.grpo: 0.04, AlignmentMethod.rloo: 0.05, AlignmentMethod.dpo: 0.1}


@dataclass(kw_only=True)
class AlignmentConfig:
    """How a model is tuned beyond its targets; what is rewarded is said in `task.reward_weights`."""

    method: AlignmentMethod = AlignmentMethod.grpo
    """grpo | rloo (rewards of sampled answers) | dpo (pairs of answers)."""
    num_generations: int = 8
    """Answers that are sampled for one prompt; training.global_batch_size counts answers, so with grpo and
    rloo it is a multiple of this."""
    temperature: float = 1.0
    """Of sampling; grpo and rloo train the probabilities at this temperature, too. Lower it where
    sampled answers are much worse than the likeliest, as after label smoothing."""
    beta: float | None = None
    """Weight that keeps the model near what it was (TRL's beta); null: 0.04 for grpo, 0.05 for
    rloo, 0.1 for dpo."""
    epsilon: float = 0.2
    """Most by which the probability of a sampled answer, as a ratio, counts in one step; grpo and
    rloo."""
    pairs: str = "sampled"
    """Of dpo: `sampled` (the best and the worst of a group by reward), or a file of JSON Lines with
    image, prefix, chosen and rejected."""
    sampled_prompts: int = 1000
    """Prompts that are asked for sampled pairs, at most, each once."""
    margin: float = 0.1
    """Least difference of rewards between chosen and rejected in a sampled pair."""
    log_completions: int = 4
    """Prompts whose sampled answers the report shows, at each of six moments of the run."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations must be at least 2 answers, not {self.num_generations}"
            )
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon must lie between 0 and 1, not {self.epsilon}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must be in (0, 1], not {self.margin}: rewards are, too")
        if self.sampled_prompts < 1:
            raise ValueError(f"sampled_prompts must be at least 1, not {self.sampled_prompts}")
        if self.log_completions < 0:
            raise ValueError(f"log_completions must be at least 0, not {self.log_completions}")
        if self.beta is not None and self.beta < 0:
            raise ValueError(f"beta must be at least 0, not {self.beta}")
        if self.beta == 0 and self.method is AlignmentMethod.dpo:
            raise ValueError("beta must be above 0 with dpo")
        if self.method is not AlignmentMethod.dpo and self.pairs != SAMPLED_PAIRS:
            raise ValueError(f"pairs={self.pairs} is of method=dpo; {self.method.value} samples")

    @property
    def effective_beta(self) -> float:
        """What `beta` comes to."""
        return DEFAULT_BETAS[self.method] if self.beta is None else self.beta
