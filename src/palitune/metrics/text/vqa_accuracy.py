"""VQA accuracy: the score of an answer grows with the number of annotators who gave it.

`vqa_accuracy_official` follows `vqaEval.py` of the VQA evaluation (visualqa.org), including its
bugs: answers are normalized only if the annotators differ (if all agree, case and punctuation must
match); the first 32 periods that no digit follows are removed, so "3." equals "3"; a comma between
digits anywhere removes every punctuation mark instead of replacing it by a space. A prediction is
compared with each set of annotators that leaves one out, so k equal answers of 10 score 0, .3, .6,
.9, 1. With a single annotator the score is always 0.
`vqa_accuracy_textvqa` follows the EvalAI answer processor of TextVQA (mmf): it always normalizes,
and first removes commas and question marks and splits off "'s" ("he's" becomes "he 's", while
"hes" becomes "he's": the two do not match). mmf requires ten answers; here the same leave-one-out
rule is applied to any number.
`vqa_accuracy_plain` is min(1, k / 3) over all annotators without any normalization, big_vision's
rule for OKVQA, A-OKVQA and VizWiz.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from palitune.metrics.base import MeanMetric, check_references

VqaVariant = Literal["official", "textvqa", "plain"]

MIN_AGREEING_ANNOTATORS = 3
"""Annotators who must agree with an answer for a score of 1."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS_REMOVED = 32  # the official call passes re.UNICODE (32) as the count
_NUMBER_WORDS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = {"a", "an", "the"}

# The contractions of the VQA evaluation. A word matches with one of its apostrophes omitted, as in
# the keys of the official table. Keys with a capital letter are left out: they never match, because
# words are lower-cased first.
_CONTRACTED_WORDS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't
    what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd
    you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:at] + word[at + 1 :]: word
    for word in _CONTRACTED_WORDS.split()
    for at, character in enumerate(word)
    if character == "'"
} | {"somebody'd": "somebodyd"}


def vqa_accuracy(answer: str, answers: Sequence[str], *, variant: VqaVariant = "official") -> float:
    """Return the accuracy in [0, 1] of one answer, given the answers of all annotators.

    Raises ValueError without annotators and for an unknown variant.
    """
    check_references(answers)
    if variant == "plain":
        return min(1.0, sum(other == answer for other in answers) / MIN_AGREEING_ANNOTATORS)
    if variant == "textvqa":
        return _leave_one_out(_normalize_textvqa(answer), [_normalize_textvqa(a) for a in answers])
    if variant == "official":
        answer, answers = _to_single_line(answer), [_to_single_line(other) for other in answers]
        if len(set(answers)) > 1:
            answer, answers = _normalize(answer), [_normalize(other) for other in answers]
        return _leave_one_out(answer, answers)
    raise ValueError(f"variant {variant!r} is not one of official, textvqa, plain")


def _leave_one_out(answer: str, answers: Sequence[str]) -> float:
    """Return the mean over the annotators of min(1, equal answers among the others / 3)."""
    equal = sum(other == answer for other in answers)
    without_equal = min(MIN_AGREEING_ANNOTATORS, equal - 1)
    without_other = min(MIN_AGREEING_ANNOTATORS, equal)
    total = equal * without_equal + (len(answers) - equal) * without_other
    return total / (MIN_AGREEING_ANNOTATORS * len(answers))


def _to_single_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)
def _normalize(text: str) -> str:
    """Remove punctuation or replace it by spaces, then normalize the words."""
    remove_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        if mark in text:
            remove = remove_all or f"{mark} " in text or f" {mark}" in text
            cleaned = cleaned.replace(mark, "" if remove else " ")
    cleaned = _PERIOD.sub("", cleaned, count=_MAX_PERIODS_REMOVED)
    words = [_NUMBER_WORDS.get(word, word) for word in cleaned.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _normalize_textvqa(text: str) -> str:
    tokens = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return _normalize(_to_single_line(tokens))


class VqaAccuracy(MeanMetric):
    def __init__(self, variant: VqaVariant) -> None:
        super().__init__(f"vqa_accuracy_{variant}")
        self.variant = variant

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return vqa_accuracy(answer, references, variant=self.variant)
