"""CIDEr-D, BLEU and ROUGE-L beside pycocoevalcap, on ordinary and on degenerate captions."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu as OfficialBleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from palitune.metrics.captions import cider_bleu_rouge
from palitune.metrics.captions.cider_bleu_rouge import Bleu, CiderD, RougeL, bleu, cider_d, rouge_l

from support.caption_corpus import random_caption

Words = Callable[[random.Random], str]
Corpus = tuple[dict[str, str], dict[str, list[str]]]


def letters(chance: random.Random) -> str:
    return " ".join(chance.choice("abcd") for _ in range(chance.randint(0, 8)))


def corpus(write: Words, images: int, seed: int) -> Corpus:
    """Predictions and one to six references of each image; some predictions are right."""
    chance = random.Random(seed)
    references = {
        f"{n}": [write(chance) for _ in range(chance.randint(1, 6))] for n in range(images)
    }
    predictions = {
        image: chance.choice(texts) if chance.random() < 0.3 else write(chance)
        for image, texts in references.items()
    }
    return predictions, references


CORPORA = [
    pytest.param(corpus(random_caption, 120, 1), id="ordinary"),
    pytest.param(corpus(letters, 200, 2), id="degenerate"),
    pytest.param(corpus(letters, 3, 3), id="three images"),
    pytest.param(({"1": "a boat"}, {"1": ["a boat", "the boat"]}), id="one image"),
    pytest.param(({"1": "call (555) 123-4567", "2": ""}, {"1": ["a"], "2": ["b c"]}), id="odd"),
]


def as_official(corpus: Corpus) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    def joined(text: str) -> str:
        return " ".join(cider_bleu_rouge.ptb_tokenize(text))

    predictions, references = corpus
    wanted = {image: [joined(text) for text in texts] for image, texts in references.items()}
    return wanted, {image: [joined(text)] for image, text in predictions.items()}


@pytest.mark.parametrize("corpus", CORPORA)
def test_cider_d_equals_the_official_code(corpus: Corpus) -> None:
    expected, by_image = Cider().compute_score(*as_official(corpus))
    score, scores = cider_d(*corpus)
    assert score == pytest.approx(expected, abs=1e-9)
    assert list(scores) == list(corpus[0])
    assert list(scores.values()) == pytest.approx(list(by_image), abs=1e-9)


@pytest.mark.parametrize("corpus", CORPORA)
def test_bleu_equals_the_official_code(corpus: Corpus) -> None:
    expected, _ = OfficialBleu(4).compute_score(*as_official(corpus), verbose=0)
    assert list(bleu(*corpus)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("corpus", CORPORA)
def test_rouge_l_equals_the_official_code(corpus: Corpus) -> None:
    expected, by_image = Rouge().compute_score(*as_official(corpus))
    score, scores = rouge_l(*corpus)
    assert score == pytest.approx(expected, abs=1e-9)
    assert list(scores.values()) == pytest.approx(list(by_image), abs=1e-9)


def test_a_caption_that_equals_all_its_references_scores_ten_and_a_lone_image_zero() -> None:
    same = {"1": "a red boat on a lake", "2": "two dogs in the snow run"}
    assert cider_d(same, {image: [text] for image, text in same.items()})[0] == pytest.approx(10)
    assert cider_d({"1": "a boat"}, {"1": ["a boat"]}) == (0, {"1": 0})


def test_captions_without_words_are_scored_and_not_a_fault() -> None:
    empty = {"1": "", "2": "."}, {"1": [""], "2": ["a b", "!"]}
    assert cider_d(*empty) == (0, {"1": 0, "2": 0})
    assert bleu(*empty)[3] == pytest.approx(0, abs=1e-6)
    assert rouge_l(*empty)[1] == {"1": 1, "2": 1}  # nothing equals nothing, there too


def test_another_tokenizer_may_be_given() -> None:
    predictions, references = {"1": "A b", "2": "c d"}, {"1": ["a b"], "2": ["c d"]}
    assert rouge_l(predictions, references)[1]["1"] == 1
    assert rouge_l(predictions, references, tokenizer=str.split)[1]["1"] == pytest.approx(0.5)
    assert cider_d(predictions, references, tokenizer=str.split)[1]["1"] < 10


@pytest.mark.parametrize("score", [cider_d, bleu, rouge_l])
def test_what_cannot_be_judged_is_refused_in_a_sentence(score: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="image '2' has only a prediction or only references"):
        score({"1": "a"}, {"1": ["a"], "2": ["b"]})
    with pytest.raises(ValueError, match="no captions to score"):
        score({}, {})
    with pytest.raises(ValueError, match="no reference"):
        score({"1": "a"}, {"1": []})


def test_the_order_of_images_and_references_does_not_matter() -> None:
    predictions, references = corpus(random_caption, 40, 5)
    turned = {image: references[image][::-1] for image in reversed(references)}
    again = dict(reversed(predictions.items()))
    assert cider_d(again, turned)[1] == pytest.approx(cider_d(predictions, references)[1])
    assert bleu(again, turned) == pytest.approx(bleu(predictions, references))


def test_the_accumulators_report_what_the_functions_do() -> None:
    predictions, references = corpus(random_caption, 30, 6)
    for metric in (cider := CiderD(), quad := Bleu(4)):
        metric.answers = list(predictions.values())
        metric.references = [tuple(texts) for texts in references.values()]
    assert cider.compute()["cider_d"] == pytest.approx(cider_d(predictions, references)[0])
    assert quad.compute()["bleu_4"] == pytest.approx(bleu(predictions, references)[3])
    each = [row["cider_d"] for row in cider.per_example_scores()]
    assert each == pytest.approx(list(cider_d(predictions, references)[1].values()))
    assert RougeL().score("a boat", ("A boat.",)) == 1


def test_bleu_of_other_sets_of_images_is_exact() -> None:
    predictions, references = corpus(random_caption, 20, 7)
    metric = Bleu(4)
    metric.answers = list(predictions.values())
    metric.references = [tuple(texts) for texts in references.values()]
    counts = np.array([[n % 3 for n in range(20)]], float)
    names = [(image, n) for place, image in enumerate(predictions) for n in range(place % 3)]
    again = {f"{image}-{n}": predictions[image] for image, n in names}
    wanted = {f"{image}-{n}": references[image] for image, n in names}
    assert metric.compute_weighted(counts)["bleu_4"] == pytest.approx(bleu(again, wanted)[3])
