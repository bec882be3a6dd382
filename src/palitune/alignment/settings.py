"""What is told of preferences and rewards: one field, one sentence, one default."""

from dataclasses import dataclass
from enum import Enum

SAMPLED = "sampled"


class Method(Enum):
    grpo = "grpo"
    """Several answers to each prompt are sampled; those above the group's mean reward become
    likelier, in units of the group's spread."""
    rloo = "rloo"
    """The same, each answer against the mean reward of the others of its group."""
    dpo = "dpo"
    """Of pairs of answers the chosen one becomes likelier than the rejected one."""


KL_WEIGHTS = {Method.grpo: 0.04, Method.rloo: 0.05, Method.dpo: 0.1}


@dataclass(kw_only=True)
class Alignment:
    """How a model is tuned beyond its targets; what is rewarded is said in `task.rewards`."""

    method: Method = Method.grpo
    """grpo | rloo (rewards of sampled answers) | dpo (pairs of answers)."""
    group: int = 8
    """Answers that are sampled for one prompt; training.batch_size counts answers, so with grpo and
    rloo it is a multiple of this."""
    temperature: float = 1.0
    """Of sampling; grpo and rloo train the probabilities at this temperature, too. Lower it where
    sampled answers are much worse than the likeliest, as after label smoothing."""
    kl_weight: float | None = None
    """Weight that keeps the model near what it was (TRL's beta); null: 0.04 for grpo, 0.05 for
    rloo, 0.1 for dpo."""
    clip: float = 0.2
    """Most by which the probability of a sampled answer, as a ratio, counts in one step; grpo and
    rloo."""
    pairs: str = "sampled"
    """Of dpo: `sampled` (the best and the worst of a group by reward), or a file of JSON Lines with
    image, prefix, chosen and rejected."""
    sampled_prompts: int = 1000
    """Prompts that are asked for sampled pairs, at most, each once."""
    margin: float = 0.1
    """Least difference of rewards between chosen and rejected in a sampled pair."""
    shown: int = 4
    """Prompts whose sampled answers the report shows, at each of six moments of the run."""

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ValueError(f"group must be at least 2 answers, not {self.group}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if not 0 < self.clip < 1:
            raise ValueError(f"clip must lie between 0 and 1, not {self.clip}")
        if not 0 < self.margin <= 1:
            raise ValueError(f"margin must be in (0, 1], not {self.margin}: rewards are, too")
        if self.sampled_prompts < 1:
            raise ValueError(f"sampled_prompts must be at least 1, not {self.sampled_prompts}")
        if self.shown < 0:
            raise ValueError(f"shown must be at least 0, not {self.shown}")
        if self.kl_weight is not None and self.kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, not {self.kl_weight}")
        if self.kl_weight == 0 and self.method is Method.dpo:
            raise ValueError("kl_weight must be above 0 with dpo")
        if self.method is not Method.dpo and self.pairs != SAMPLED:
            raise ValueError(f"pairs={self.pairs} is of method=dpo; {self.method.value} samples")

    @property
    def weight(self) -> float:
        """What `kl_weight` comes to."""
        return KL_WEIGHTS[self.method] if self.kl_weight is None else self.kl_weight
