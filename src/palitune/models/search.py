"""Which tokens an answer is made of: the likeliest at every step, or those of the best beam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

Limit = Callable[[Sequence[int], Sequence[Sequence[int]], Tensor], Tensor]
"""Takes, for each answer, the number of its prompt and the tokens it has written, and the scores of
all next ones, (answers, vocabulary); returns these with minus infinity for what may not come."""


@dataclass(frozen=True)
class Answer:
    """What stands behind a prompt so far; EOS counts as a token."""

    ids: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    """Of each token under the model alone. A limit does not touch them: renormalised over what it
    allows, a forced token would be certain however little the model meant it, and a box that the
    model did not want would look as sure as one that it did."""
    score: float = 0.0
    """Their sum, minus infinity where no token was allowed."""

    def and_then(self, token: int, log_prob: float, score: float) -> "Answer":
        return Answer((*self.ids, token), (*self.log_probs, log_prob), score)

    @property
    def per_token(self) -> float:
        return self.score / len(self.ids)


class Search(Protocol):
    """Chooses tokens, given scores."""

    beams: int
    """Answers to each prompt that are followed at a time, from the second step on."""

    def take(self, logits: Tensor) -> tuple[list[int], list[int]]:
        """Choose from the scores (answers, vocabulary) of the next token of every open answer.

        Returns which of them to go on with, numbered by their place in the scores, and by what
        token; no tokens once all have ended.
        """

    def answers(self) -> list[Answer]:
        """Return the answer to every prompt, once all have ended."""


class Greedy:
    """The likeliest token at every step, up to EOS or `most` tokens."""

    beams = 1

    def __init__(self, prompts: int, eos: int, most: int, limit: Limit | None = None) -> None:
        self.eos, self.most, self.limit = eos, most, limit
        self.found = [Answer()] * prompts
        self.open = list(range(prompts))

    def take(self, logits: Tensor) -> tuple[list[int], list[int]]:
        scores = logits
        if self.limit is not None:
            scores = self.limit(self.open, [self.found[n].ids for n in self.open], logits)
        best = scores.argmax(-1)
        log_probs = logits.gather(-1, best[:, None])[:, 0] - logits.logsumexp(-1)
        going_on, tokens, still_open = [], [], []
        chosen = zip(self.open, best.tolist(), log_probs.tolist(), strict=True)
        for place, (prompt, token, log_prob) in enumerate(chosen):
            answer = self.found[prompt]
            self.found[prompt] = answer.and_then(token, log_prob, answer.score + log_prob)
            if token != self.eos and len(answer.ids) + 1 < self.most:
                going_on.append(place)
                tokens.append(token)
                still_open.append(prompt)
        self.open = still_open
        return going_on, tokens

    def answers(self) -> list[Answer]:
        return self.found


@dataclass
class _Prompt:
    number: int
    running: list[Answer] = field(default_factory=lambda: [Answer()])
    """From the likeliest on."""
    ended: list[Answer] = field(default_factory=list)
    """The best per token, from the best on."""


class Beams:
    """The answer of the highest log-probability per token among those that a few beams find.

    As transformers searches: of the best `2 * beams` continuations of a prompt's beams, those of
    the first `beams` that end are kept, and the others go on; a prompt is done when `beams` have
    ended and none that goes on is better than the worst of them, by its tokens so far.
    """

    def __init__(
        self, prompts: int, eos: int, most: int, beams: int, limit: Limit | None = None
    ) -> None:
        self.eos, self.most, self.beams, self.limit = eos, most, beams, limit
        self.prompts = [_Prompt(number) for number in range(prompts)]
        self.open = self.prompts

    def take(self, logits: Tensor) -> tuple[list[int], list[int]]:
        present = [(prompt.number, answer) for prompt in self.open for answer in prompt.running]
        log_probs = logits.log_softmax(-1)
        allowed = log_probs
        if self.limit is not None:
            written = [answer.ids for _, answer in present]
            allowed = self.limit([number for number, _ in present], written, log_probs)
        so_far = allowed.new_tensor([answer.score for _, answer in present])
        each = len(present) // len(self.open)
        scores = (allowed + so_far[:, None]).view(len(self.open), -1)
        best, at = scores.topk(2 * self.beams)
        beam, token = at // logits.shape[1], at % logits.shape[1]
        first = beam.new_tensor(range(0, len(present), each))[:, None]
        own = log_probs[beam + first, token]
        going_on, tokens = [], []
        found = zip(best.tolist(), beam.tolist(), token.tolist(), own.tolist(), strict=True)
        for place, (prompt, candidates) in enumerate(zip(self.open, found, strict=True)):
            parents = self._advance(prompt, list(zip(*candidates, strict=True)))
            if not self._is_done(prompt):
                going_on += [place * each + parent for parent in parents]
                tokens += [answer.ids[-1] for answer in prompt.running]
        self.open = [prompt for prompt in self.open if not self._is_done(prompt)]
        return going_on, tokens

    def _advance(
        self, prompt: _Prompt, candidates: Sequence[tuple[float, int, int, float]]
    ) -> list[int]:
        """Let the best continuations of a prompt end or go on; return whose they are."""
        before, prompt.running = prompt.running, []
        parents = []
        for rank, (score, beam, token, log_prob) in enumerate(candidates):
            answer = before[beam].and_then(token, log_prob, score)
            if token == self.eos or len(answer.ids) == self.most:
                if rank < self.beams and score != float("-inf"):
                    prompt.ended.append(answer)
            elif len(prompt.running) < self.beams:
                prompt.running.append(answer)
                parents.append(beam)
        prompt.ended.sort(key=lambda answer: -answer.per_token)
        del prompt.ended[self.beams :]
        return parents

    def _is_done(self, prompt: _Prompt) -> bool:
        if not prompt.running or prompt.running[0].score == float("-inf"):
            return True
        is_full = len(prompt.ended) == self.beams
        return is_full and prompt.running[0].per_token <= prompt.ended[-1].per_token

    def answers(self) -> list[Answer]:
        return [prompt.ended[0] for prompt in self.prompts]
