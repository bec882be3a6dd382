"""Time the metrics beside the official code, on made-up answers, captions and boxes.

    python benchmarks/metrics.py --check --output metrics

Needs `.[dev,captions]` and Java. Both sides of a line get the same input and take turns; one whose
numbers differ by more than 1e-9 gets no ratio. Seconds are of the wall clock, as the official code
starts programs of its own. `--quick` runs everything once on a few images.
"""

from __future__ import annotations

import contextlib
import copy
import io
import random
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from palitune.evaluation.resampling import bootstrap_metrics
from palitune.metrics import METRICS
from palitune.metrics.captions import ptb_tokenizer
from palitune.metrics.captions.cider_bleu_rouge import bleu, cider_d, rouge_l
from palitune.metrics.objects.average_precision import STAT_NAMES
from palitune.metrics.objects.detection import coco_ap
from palitune.metrics.text.anls import anls
from palitune.records import Example, Prediction

from harness.options import build_parser
from harness.paired_timing import BenchmarkRow, finish, mismatch_row, summarize

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.caption_corpus import random_caption

PACKAGES = ("numpy", "rapidfuzz", "pycocoevalcap", "pycocotools")
GOAL, CIDER_GOAL = 1.0, 5.0
"""How many times faster than the official code."""
ANLS_LIMIT, AP_LIMIT = 0.05, 8.0
"""Most seconds at full size."""

Tokens = tuple[dict[str, list[str]], dict[str, list[str]]]
"""References and captions, joined by spaces, by image."""


def main() -> int:
    told = build_parser(
        __doc__, rounds=3, devices=False, quick="a few images, one round"
    ).parse_args()
    rounds, count = (1, 50) if told.quick else (told.rounds, 5000)
    captions, references = random_captions(count)
    tokens = official_tokens(captions, references)
    truth, found = random_boxes(count)
    rows = [
        compare_seconds(
            f"CIDEr-D, {count:,} x 5, with tokens",
            lambda: with_cold_cache(lambda: cider_d(captions, references)[0]),
            lambda: official_cider(captions, references),
            rounds,
            CIDER_GOAL,
        ),
        compare_seconds(
            f"BLEU-1 to 4, {count:,} x 5, of tokens",
            lambda: bleu(*tokens_to_arguments(tokens), tokenizer=str.split)[3],
            lambda: official_score(Bleu(4), tokens)[3],
            rounds,
        ),
        compare_seconds(
            f"ROUGE-L, {count:,} x 5, of tokens",
            lambda: rouge_l(*tokens_to_arguments(tokens), tokenizer=lambda text: text.split(" "))[
                0
            ],
            lambda: official_score(Rouge(), tokens),
            rounds,
        ),
        compare_seconds(
            f"COCO AP, {count:,} images, {len(truth['annotations']):,} boxes",
            lambda: coco_ap(truth, found)["AP"],
            lambda: official_ap(truth, found),
            rounds,
        ),
    ]
    answers = random_answers(count)
    anls_took = time_call(lambda: [anls(a, r) for a, r in answers])[0]
    intervals_took = time_call(lambda: resample_caption_metrics(captions, references))[0]
    notes = [
        ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES),
        f"ANLS, {count:,} answers: {anls_took:.3g} s",
        f"intervals, {count:,} captions x 1,000: {intervals_took:.3g} s",
    ]
    status = finish(rows, told.output, notes, check=told.check)
    slow = [
        f"over its limit of {limit:g} s: {name}, {took:.3g} s"
        for name, took, limit in (
            ("ANLS", anls_took, ANLS_LIMIT),
            ("COCO AP", rows[-1].ours, AP_LIMIT),
        )
        if took > limit
    ]
    print("\n".join(slow), end="\n" if slow else "")
    return int(bool(status or (told.check and slow)))


def compare_seconds(
    name: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    rounds: int,
    goal: float = GOAL,
) -> BenchmarkRow:
    """Time both in turns; numbers that are apart get no ratio."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        (own, number), (other, expected) = time_call(ours), time_call(theirs)
        if not abs(number - expected) < 1e-9:
            return mismatch_row(name, f"{number} and {expected}", goal)
        times.append((own, other))
    return summarize(name, "s", times, goal)


def time_call(fn: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


def with_cold_cache(fn: Callable[[], Any]) -> Any:
    """Forget the words that were cut before."""
    ptb_tokenizer._tokenize_word.cache_clear()
    ptb_tokenizer._normalize_token.cache_clear()
    return fn()


def random_answers(count: int) -> list[tuple[str, list[str]]]:
    """Short answers with one to two references; some are right, some misspelt, some wrong."""
    chance = random.Random(0)
    words = [random_caption(chance).split()[-1].strip(".") for _ in range(500)]

    def answer() -> str:
        return " ".join(chance.choice(words) for _ in range(chance.randint(1, 5)))

    made = []
    for _ in range(count):
        references = [answer() for _ in range(chance.randint(1, 2))]
        right = references[0]
        made.append((chance.choice([right, right[:-1] + "x", answer()]), references))
    return made


def random_captions(count: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Ordinary captions: one in ten carries a number, a quotation or the like."""
    chance = random.Random(1)
    extras = (0,) * 9 + (1,)
    references = {f"{n}": [random_caption(chance, extras) for _ in range(5)] for n in range(count)}
    predictions = {
        image: chance.choice(texts) if chance.random() < 0.3 else random_caption(chance, extras)
        for image, texts in references.items()
    }
    return predictions, references


def resample_caption_metrics(captions: dict[str, str], references: dict[str, list[str]]) -> int:
    """Resample CIDEr-D, BLEU and ROUGE-L as an evaluation does, cutting captions included."""
    metrics = [METRICS[name]() for name in ("cider_d", "bleu", "rouge_l")]
    for image, text in captions.items():
        wanted = tuple(references[image])
        example = Example(
            id=image, images=(image,), size=(1, 1), prefix="", suffixes=wanted, reference=wanted,
            location=image,
        )  # fmt: skip
        for metric in metrics:
            metric.update(example, Prediction(id=image, text=text, value=text))
    return len(bootstrap_metrics(metrics, list(captions), 1000))


def official_cider(captions: dict[str, str], references: dict[str, list[str]]) -> float:
    score: float = official_score(Cider(), official_tokens(captions, references))
    return score


def official_tokens(captions: dict[str, str], references: dict[str, list[str]]) -> Tokens:
    """Cut references and captions by the Java program."""
    cut = PTBTokenizer().tokenize
    wanted = cut({image: [{"caption": t} for t in texts] for image, texts in references.items()})
    return wanted, cut({image: [{"caption": text}] for image, text in captions.items()})


def official_score(scorer: Any, tokens: Tokens) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return scorer.compute_score(*tokens)[0]


def tokens_to_arguments(tokens: Tokens) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Give the same tokens to functions that take captions first and one per image."""
    wanted, found = tokens
    return {image: texts[0] for image, texts in found.items()}, wanted


def random_boxes(count: int, classes: int = 80) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """About 7.2 objects in three classes per image, found shifted, missed and invented."""
    chance = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def box() -> list[float]:
        return [*chance.uniform(0, 400, 2).tolist(), *np.exp(chance.uniform(2.5, 5.3, 2)).tolist()]

    for image in range(1, count + 1):
        here = chance.integers(1, classes + 1, 3)
        for _ in range(chance.poisson(7.2)):
            x, y, w, h = box()
            one = {"image_id": image, "category_id": int(chance.choice(here))}
            entry = one | {"bbox": [x, y, w, h], "area": w * h, "id": len(annotations) + 1}
            annotations.append(entry | {"iscrowd": int(chance.random() < 0.01)})
            if chance.random() < 0.8:
                dx, dy = chance.normal(0, 0.06, 2) * (w, h)
                shifted = [x + float(dx), y + float(dy), w, h]
                results.append(one | {"bbox": shifted, "score": float(chance.random())})
        for _ in range(chance.poisson(1.44)):
            one = {"image_id": image, "category_id": int(chance.integers(1, classes + 1))}
            results.append(one | {"bbox": box(), "score": 0.7 * float(chance.random())})
    truth = {
        "images": [{"id": image, "width": 640, "height": 480} for image in range(1, count + 1)],
        "categories": [{"id": number, "name": f"{number}"} for number in range(1, classes + 1)],
        "annotations": annotations,
    }
    return truth, results


def official_ap(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = copy.deepcopy(truth)
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(copy.deepcopy(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[STAT_NAMES.index("AP")])


if __name__ == "__main__":
    sys.exit(main())
