"""Which tokens an answer is made of: the likeliest at every step, or those of the best beam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

LogitsProcessorFn = Callable[[Sequence[int], Sequence[Sequence[int]], Tensor], Tensor]
"""Takes, for each answer, the number of its prompt and the tokens it has written, and the scores of
all next ones, (answers, vocabulary); returns these with minus infinity for what may not come."""


@dataclass(frozen=True)
class Hypothesis:
    """What stands behind a prompt so far; EOS counts as a token."""

    token_ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """Of each token under the model alone. A limit does not touch them: renormalised over what it
    allows, a forced token would be certain however little the model meant it, and a box that the
    model did not want would look as sure as one that it did."""
    score: float = 0.0
    """Their sum, minus infinity where no token was allowed."""

    def append(self, token: int, log_prob: float, score: float) -> "Hypothesis":
        return Hypothesis((*self.token_ids, token), (*self.log_probs, log_prob), score)

    @property
    def mean_log_prob(self) -> float:
        return self.score / len(self.token_ids)


class DecodingStrategy(Protocol):
    """Chooses tokens, given scores."""

    num_beams: int
    """Answers to each prompt that are followed at a time, from the second step on."""

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        """Choose from the scores (answers, vocabulary) of the next token of every open answer.

        Returns which of them to go on with, numbered by their place in the scores, and by what
        token; no tokens once all have ended.
        """

    def finished(self) -> list[Hypothesis]:
        """Return the answer to every prompt, once all have ended."""


class GreedySearch:
    """The likeliest token at every step, up to EOS or `most` tokens."""

    num_beams = 1

    def __init__(
        self,
        num_prompts: int,
        eos_token_id: int,
        max_new_tokens: int,
        logits_processor: LogitsProcessorFn | None = None,
    ) -> None:
        self.eos_token_id, self.max_new_tokens, self.logits_processor = (
            eos_token_id,
            max_new_tokens,
            logits_processor,
        )
        self.hypotheses = [Hypothesis()] * num_prompts
        self.open_prompts = list(range(num_prompts))

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        scores = logits
        if self.logits_processor is not None:
            scores = self.logits_processor(
                self.open_prompts, [self.hypotheses[n].token_ids for n in self.open_prompts], logits
            )
        best = scores.argmax(-1)
        log_probs = logits.gather(-1, best[:, None])[:, 0] - logits.logsumexp(-1)
        going_on, tokens, still_open = [], [], []
        chosen = zip(self.open_prompts, best.tolist(), log_probs.tolist(), strict=True)
        for place, (prompt, token, log_prob) in enumerate(chosen):
            answer = self.hypotheses[prompt]
            self.hypotheses[prompt] = answer.append(token, log_prob, answer.score + log_prob)
            if token != self.eos_token_id and len(answer.token_ids) + 1 < self.max_new_tokens:
                going_on.append(place)
                tokens.append(token)
                still_open.append(prompt)
        self.open_prompts = still_open
        return going_on, tokens

    def finished(self) -> list[Hypothesis]:
        return self.hypotheses


@dataclass
class _BeamState:
    prompt_index: int
    running: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    """From the likeliest on."""
    finished: list[Hypothesis] = field(default_factory=list)
    """The best per token, from the best on."""


class BeamSearch:
    """The answer of the highest log-probability per token among those that a few beams find.

    As transformers searches: of the best `2 * beams` continuations of a prompt's beams, those of
    the first `beams` that end are kept, and the others go on; a prompt is done when `beams` have
    ended and none that goes on is better than the worst of them, by its tokens so far.
    """

    def __init__(
        self,
        num_prompts: int,
        eos_token_id: int,
        max_new_tokens: int,
        num_beams: int,
        logits_processor: LogitsProcessorFn | None = None,
    ) -> None:
        self.eos_token_id, self.max_new_tokens, self.num_beams, self.logits_processor = (
            eos_token_id,
            max_new_tokens,
            num_beams,
            logits_processor,
        )
        self.beam_states = [_BeamState(number) for number in range(num_prompts)]
        self.open_states = self.beam_states

    def select(self, logits: Tensor) -> tuple[list[int], list[int]]:
        present = [
            (prompt.prompt_index, answer)
            for prompt in self.open_states
            for answer in prompt.running
        ]
        log_probs = logits.log_softmax(-1)
        allowed = log_probs
        if self.logits_processor is not None:
            written = [answer.token_ids for _, answer in present]
            allowed = self.logits_processor([number for number, _ in present], written, log_probs)
        so_far = allowed.new_tensor([answer.score for _, answer in present])
        each = len(present) // len(self.open_states)
        scores = (allowed + so_far[:, None]).view(len(self.open_states), -1)
        best, at = scores.topk(2 * self.num_beams)
        beam, token = at // logits.shape[1], at % logits.shape[1]
        first = beam.new_tensor(range(0, len(present), each))[:, None]
        own = log_probs[beam + first, token]
        going_on, tokens = [], []
        found = zip(best.tolist(), beam.tolist(), token.tolist(), own.tolist(), strict=True)
        for place, (prompt, candidates) in enumerate(zip(self.open_states, found, strict=True)):
            parents = self._extend_beams(prompt, list(zip(*candidates, strict=True)))
            if not self._is_done(prompt):
                going_on += [place * each + parent for parent in parents]
                tokens += [answer.token_ids[-1] for answer in prompt.running]
        self.open_states = [prompt for prompt in self.open_states if not self._is_done(prompt)]
        return going_on, tokens

    def _extend_beams(
        self, beam_state: _BeamState, candidates: Sequence[tuple[float, int, int, float]]
    ) -> list[int]:
        """Let the best continuations of a prompt end or go on; return whose they are."""
        before, beam_state.running = beam_state.running, []
        parents = []
        for rank, (score, beam, token, log_prob) in enumerate(candidates):
            answer = before[beam].append(token, log_prob, score)
            if token == self.eos_token_id or len(answer.token_ids) == self.max_new_tokens:
                if rank < self.num_beams and score != float("-inf"):
                    beam_state.finished.append(answer)
            elif len(beam_state.running) < self.num_beams:
                beam_state.running.append(answer)
                parents.append(beam)
        beam_state.finished.sort(key=lambda answer: -answer.mean_log_prob)
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
        return [prompt.finished[0] for prompt in self.beam_states]
