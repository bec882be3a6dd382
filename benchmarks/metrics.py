"""Benchmark of the metrics, compared with the official code, on random answers, captions and boxes.

    python benchmarks/metrics.py --check --output metrics

Requires `.[dev,captions]` and Java. Both sides of a line have the same input and are timed
alternately; a line has no ratio if the values differ by more than 1e-9. Times are wall-clock times,
because the official code starts other programs. `--quick` runs keys round on a few images.
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
"""Smallest ratio of the official code's time to ours."""
ANLS_LIMIT, AP_LIMIT = 0.05, 8.0
"""Limits in seconds at full size."""

Tokens = tuple[dict[str, list[str]], dict[str, list[str]]]
"""References and captions by image, as tokens joined by spaces."""


def main() -> int:
    args = build_parser(
        __doc__, rounds=3, devices=False, quick="run keys round on a few images"
    ).parse_args()
    rounds, count = (1, 50) if args.quick else (args.rounds, 5000)
    captions, references = random_captions(count)
    tokens = official_tokens(captions, references)
    truth, predicted = random_boxes(count)
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
            lambda: coco_ap(truth, predicted)["AP"],
            lambda: official_ap(truth, predicted),
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
    status = finish(rows, args.output, notes, check=args.check)
    slow = [
        f"over its limit of {limit:g} s: {name}, {took:.3g} s"
        for name, took, limit in (
            ("ANLS", anls_took, ANLS_LIMIT),
            ("COCO AP", rows[-1].ours, AP_LIMIT),
        )
        if took > limit
    ]
    print("\n".join(slow), end="\n" if slow else "")
    return int(bool(status or (args.check and slow)))


def compare_seconds(
    name: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    rounds: int,
    goal: float = GOAL,
) -> BenchmarkRow:
    """Time both sides alternately; different values have no ratio."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        (our_time, value), (their_time, expected) = time_call(ours), time_call(theirs)
        if not abs(value - expected) < 1e-9:
            return mismatch_row(name, f"{value} and {expected}", goal)
        times.append((our_time, their_time))
    return summarize(name, "s", times, goal)


def time_call(fn: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = fn()
    return time.perf_counter() - start, result


def with_cold_cache(fn: Callable[[], Any]) -> Any:
    """Call a function with an empty token cache."""
    ptb_tokenizer._tokenize_word.cache_clear()
    ptb_tokenizer._normalize_token.cache_clear()
    return fn()


def random_answers(count: int) -> list[tuple[str, list[str]]]:
    """Return short correct, misspelled and wrong answers with keys or two references."""
    rng = random.Random(0)
    words = [random_caption(rng).split()[-1].strip(".") for _ in range(500)]

    def answer() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randint(1, 5)))

    answers = []
    for _ in range(count):
        references = [answer() for _ in range(rng.randint(1, 2))]
        first = references[0]
        answers.append((rng.choice([first, first[:-1] + "x", answer()]), references))
    return answers


def random_captions(count: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return captions, keys in ten of which contains a number, a quotation or similar."""
    rng = random.Random(1)
    extras = (0,) * 9 + (1,)
    references = {f"{n}": [random_caption(rng, extras) for _ in range(5)] for n in range(count)}
    predictions = {
        image: rng.choice(texts) if rng.random() < 0.3 else random_caption(rng, extras)
        for image, texts in references.items()
    }
    return predictions, references


def resample_caption_metrics(captions: dict[str, str], references: dict[str, list[str]]) -> int:
    """Bootstrap CIDEr-D, BLEU and ROUGE-L as an evaluation does, including the tokenization."""
    metrics = [METRICS[name]() for name in ("cider_d", "bleu", "rouge_l")]
    for image, text in captions.items():
        texts = tuple(references[image])
        example = Example(
            id=image, images=(image,), size=(1, 1), prefix="", suffixes=texts, reference=texts,
            location=image,
        )  # fmt: skip
        for metric in metrics:
            metric.update(example, Prediction(id=image, text=text, value=text))
    return len(bootstrap_metrics(metrics, list(captions), 1000))


def official_cider(captions: dict[str, str], references: dict[str, list[str]]) -> float:
    score: float = official_score(Cider(), official_tokens(captions, references))
    return score


def official_tokens(captions: dict[str, str], references: dict[str, list[str]]) -> Tokens:
    """Tokenize references and captions with the Java program."""
    tokenize = PTBTokenizer().tokenize
    return (
        tokenize({image: [{"caption": t} for t in texts] for image, texts in references.items()}),
        tokenize({image: [{"caption": text}] for image, text in captions.items()}),
    )


def official_score(scorer: Any, tokens: Tokens) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return scorer.compute_score(*tokens)[0]


def tokens_to_arguments(tokens: Tokens) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the tokens as captions, keys per image, and references."""
    references, captions = tokens
    return {image: texts[0] for image, texts in captions.items()}, references


def random_boxes(count: int, classes: int = 80) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return about 7.2 objects of three classes per image, with shifted and invented detections."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []

    def box() -> list[float]:
        return [*rng.uniform(0, 400, 2).tolist(), *np.exp(rng.uniform(2.5, 5.3, 2)).tolist()]

    for image in range(1, count + 1):
        image_classes = rng.integers(1, classes + 1, 3)
        for _ in range(rng.poisson(7.2)):
            x, y, w, h = box()
            keys = {"image_id": image, "category_id": int(rng.choice(image_classes))}
            entry = keys | {"bbox": [x, y, w, h], "area": w * h, "id": len(annotations) + 1}
            annotations.append(entry | {"iscrowd": int(rng.random() < 0.01)})
            if rng.random() < 0.8:
                dx, dy = rng.normal(0, 0.06, 2) * (w, h)
                shifted = [x + float(dx), y + float(dy), w, h]
                results.append(keys | {"bbox": shifted, "score": float(rng.random())})
        for _ in range(rng.poisson(1.44)):
            keys = {"image_id": image, "category_id": int(rng.integers(1, classes + 1))}
            results.append(keys | {"bbox": box(), "score": 0.7 * float(rng.random())})
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
