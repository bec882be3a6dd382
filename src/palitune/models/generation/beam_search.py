"""Decoding strategies: greedy search and beam search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

LogitsProcessorFn = Callable[[Sequence[int], Sequence[Sequence[int]], Tensor], Tensor]
"""Called with the prompt index and the generated tokens of each sequence, and the scores of the
next token, (sequences, vocabulary); returns the scores, minus infinity for tokens not allowed."""


@dataclass(frozen=True)
class Hypothesis:
    """Generated tokens of a sequence, EOS included."""

    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """Log-probability of each token without constraints. If it were renormalized over the allowed
    tokens, a forced token would have probability 1, and an unlikely box a high confidence."""
    score: float = 0.0
    """Sum of the log-probabilities; minus infinity if no token was allowed."""

    def append(self, token: int, log_prob: float, score: float) -> "Hypothesis":
        return Hypothesis((*self.token_ids, token), (*self.log_probs, log_prob), score)

    @property
    def mean_log_prob(self) -> float:
        return self.score / len(self.token_ids)


def limit_per_prompt(max_new_tokens: int | Sequence[int], num_prompts: int) -> Sequence[int]:
    """Return the most tokens of the answer to each prompt, from one number or one per prompt."""
    if isinstance(max_new_tokens, int):
        return [max_new_tokens] * num_prompts
    return max_new_tokens


class DecodingStrategy(Protocol):
    """Selects the next token of every sequence."""

    num_beams: int
    """Sequences per prompt, from the second step on."""

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        """Select tokens from the logits (sequences, vocabulary) of all unfinished sequences.

        Returns the rows of the sequences to continue and the token of each; both are empty when all
        sequences are finished.
        """

    def finished(self) -> list[Hypothesis]:
        """Return the result of every prompt, when all sequences are finished."""


class GreedySearch:
    """The most likely token at every step, until EOS or `max_new_tokens`."""

    num_beams = 1

    def __init__(
        self,
        num_prompts: int,
        eos_token_id: int,
        max_new_tokens: int | Sequence[int],
        logits_processor: LogitsProcessorFn | None = None,
    ) -> None:
        self.eos_token_id = eos_token_id
        self.max_new_tokens = limit_per_prompt(max_new_tokens, num_prompts)
        self.logits_processor = logits_processor
        self.hypotheses = [Hypothesis()] * num_prompts
        self.open_prompts = list(range(num_prompts))

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        scores = logits
        if self.logits_processor is not None:
            generated_ids = [self.hypotheses[prompt].token_ids for prompt in self.open_prompts]
            scores = self.logits_processor(self.open_prompts, generated_ids, logits)
        best = scores.argmax(-1)
        log_probs = logits.gather(-1, best[:, None])[:, 0] - logits.logsumexp(-1)
        rows, tokens, still_open = [], [], []
        selected = zip(self.open_prompts, best.tolist(), log_probs.tolist(), strict=True)
        for row, (prompt, token, log_prob) in enumerate(selected):
            before = self.hypotheses[prompt]
            after = before.append(token, log_prob, before.score + log_prob)
            self.hypotheses[prompt] = after
            if token != self.eos_token_id and len(after.token_ids) < self.max_new_tokens[prompt]:
                rows.append(row)
                tokens.append(token)
                still_open.append(prompt)
        self.open_prompts = still_open
        return rows, tokens

    def finished(self) -> list[Hypothesis]:
        return self.hypotheses


@dataclass
class _BeamState:
    prompt_index: int
    running: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    """Unfinished hypotheses, most likely first."""
    finished: list[Hypothesis] = field(default_factory=list)
    """Finished hypotheses, highest log-probability per token first."""


class BeamSearch:
    """Beam search for the sequence with the highest log-probability per token.

    As in transformers: of the best `2 * num_beams` continuations of a prompt, finished ones are
    kept if they are among the best `num_beams`, and the best unfinished ones continue. A prompt is
    done when `num_beams` have finished and no unfinished one has a higher log-probability per
    token than the worst of them.
    """

    def __init__(
        self,
        num_prompts: int,
        eos_token_id: int,
        max_new_tokens: int | Sequence[int],
        num_beams: int,
        logits_processor: LogitsProcessorFn | None = None,
    ) -> None:
        self.eos_token_id = eos_token_id
        self.max_new_tokens = limit_per_prompt(max_new_tokens, num_prompts)
        self.num_beams = num_beams
        self.logits_processor = logits_processor
        self.beam_states = [_BeamState(prompt) for prompt in range(num_prompts)]
        self.open_states = self.beam_states

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        running = [
            (state.prompt_index, hypothesis)
            for state in self.open_states
            for hypothesis in state.running
        ]
        log_probs = logits.log_softmax(-1)
        allowed = log_probs
        if self.logits_processor is not None:
            generated_ids = [hypothesis.token_ids for _, hypothesis in running]
            allowed = self.logits_processor(
                [prompt for prompt, _ in running], generated_ids, log_probs
            )
        scores_so_far = allowed.new_tensor([hypothesis.score for _, hypothesis in running])
        beams = len(running) // len(self.open_states)  # 1 in the first step, then num_beams
        scores = (allowed + scores_so_far[:, None]).view(len(self.open_states), -1)
        best, index = scores.topk(2 * self.num_beams)
        beam, token = index // logits.shape[1], index % logits.shape[1]
        first_row = beam.new_tensor(range(0, len(running), beams))[:, None]
        token_log_probs = log_probs[beam + first_row, token]
        rows, tokens = [], []
        columns = (best.tolist(), beam.tolist(), token.tolist(), token_log_probs.tolist())
        for number, (state, *candidates) in enumerate(zip(self.open_states, *columns, strict=True)):
            parents = self._extend_beams(state, list(zip(*candidates, strict=True)))
            if not self._is_done(state):
                rows += [number * beams + parent for parent in parents]
                tokens += [hypothesis.token_ids[-1] for hypothesis in state.running]
        self.open_states = [state for state in self.open_states if not self._is_done(state)]
        return rows, tokens

    def _extend_beams(
        self, beam_state: _BeamState, candidates: Sequence[tuple[float, int, int, float]]
    ) -> list[int]:
        """Finish or continue the best candidates of a prompt; return the beams that were continued.

        candidates: (score, beam, token, log-probability of the token), highest score first.
        """
        previous, beam_state.running = beam_state.running, []
        max_new_tokens = self.max_new_tokens[beam_state.prompt_index]
        parents = []
        for rank, (score, beam, token, log_prob) in enumerate(candidates):
            hypothesis = previous[beam].append(token, log_prob, score)
            if token == self.eos_token_id or len(hypothesis.token_ids) == max_new_tokens:
                if rank < self.num_beams and score != float("-inf"):
                    beam_state.finished.append(hypothesis)
            elif len(beam_state.running) < self.num_beams:
                beam_state.running.append(hypothesis)
                parents.append(beam)
        beam_state.finished.sort(key=lambda hypothesis: -hypothesis.mean_log_prob)
        del beam_state.finished[self.num_beams :]
        return parents

    def _is_done(self, beam_state: _BeamState) -> bool:
        if not beam_state.running or beam_state.running[0].score == float("-inf"):
            return True
        is_full = len(beam_state.finished) == self.num_beams
        return (
            is_full and beam_state.running[0].mean_log_prob <= beam_state.finished[-1].mean_log_prob
        )

    def finished(self) -> list[Hypothesis]:
        return [state.finished[0] for state in self.beam_states]
