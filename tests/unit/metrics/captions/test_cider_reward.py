"""A caption's reward is its CIDEr-D among the captions that are learned from."""

import pytest

from palitune.metrics.captions.cider_bleu_rouge import cider_d
from palitune.metrics.captions.cider_reward import CaptionReward
from palitune.metrics.value_range import MAX_CIDER_D
from palitune.records import Example, Prediction

REFERENCES = {
    "1": ["A man's hat lies on the beach.", "the hat of a man on a beach"],
    "2": ["two boats in the harbour", "boats lie in a harbour, two of them"],
    "3": ["a dog on the beach"],
}
CAPTIONS = {"1": "a hat on the beach", "2": "two boats in the harbour harbour", "3": "a cat"}


def test_it_equals_the_metric_of_the_whole_corpus() -> None:
    _, scores = cider_d(CAPTIONS, REFERENCES)
    examples = {
        key: Example(
            id=key, images=(), size=(1, 1), prefix="", suffixes=tuple(texts),
            reference=tuple(texts), location="",
        )
        for key, texts in REFERENCES.items()
    }  # fmt: skip
    reward = CaptionReward(list(examples.values()))
    for key, caption in CAPTIONS.items():
        judged = reward(Prediction(id=key, text=caption, value=caption), examples[key])
        assert judged == pytest.approx(scores[key] / MAX_CIDER_D)
    assert reward(Prediction(id="1", text="", value=None), examples["1"]) == 0
