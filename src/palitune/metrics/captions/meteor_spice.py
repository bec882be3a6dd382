"""METEOR and SPICE of captions, by the Java programs that the COCO caption evaluation runs.

Neither has a faithful Python form. pycocoevalcap carries METEOR 1.5 and SPICE 1.0; it is an
optional extra (`pip install 'palitune[captions]'`) and needs Java. SPICE needs the models of
Stanford CoreNLP 3.6.0 besides, which it loads from the network once. Where anything is missing, an
evaluation that asks for them ends with a sentence before it begins, never with a zero.
METEOR's corpus number is no mean over images: it comes of sums over them.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from palitune.errors import MetricError
from palitune.metrics.base import (
    CorpusMeanMetric,
    FloatArray,
    Metric,
    ResampleCounts,
    answer_text,
    ratio,
    reference_texts,
)
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
from palitune.records import Example, Prediction

_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class Meteor(Metric):
    """Java finds the matches of each caption; what is counted of them becomes scores here."""

    def __init__(self) -> None:
        require_pycocoevalcap("meteor")
        self.answers: list[str] = []
        self.references: list[tuple[str, ...]] = []
        self._cached_statistics: FloatArray | None = None

    def statistics(self) -> FloatArray:
        """Have the program count once, until another example comes in: see `meteor_scores`."""
        if self._cached_statistics is None:
            self._cached_statistics = _meteor_statistics(self.answers, self.references)
        return self._cached_statistics

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        self.answers.append(answer_text(prediction))
        self.references.append(reference_texts(example))
        self._cached_statistics = None
        return {}

    def compute(self) -> dict[str, float]:
        return {
            "meteor": float(self.compute_weighted(np.ones((1, len(self.answers))))["meteor"][0])
        }

    def per_example_scores(self) -> list[dict[str, float]]:
        return [{"meteor": score} for score in meteor_scores(self.statistics()).tolist()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        if not self.answers:
            return {"meteor": np.full(len(counts), np.nan)}
        return {"meteor": meteor_scores(counts @ self.statistics())}


def meteor_scores(statistics: FloatArray) -> FloatArray:
    """Return METEOR of summed statistics, (rows,); NaN of nothing.

    Columns: length of caption and reference, function words of both; for each kind of match
    (exact, stem, synonym, paraphrase) matching content words of both, then function words of both;
    chunks, matching words of both. The constants are METEOR 1.5's for English.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    length, wanted, function, wanted_function = statistics[:, :4].T
    kinds = statistics[:, 4:20].reshape(-1, 4, 4) @ np.diag([delta, delta, 1 - delta, 1 - delta])
    matching = np.einsum("rkc,k->rc", kinds, weights)
    precision = ratio(
        matching[:, 0] + matching[:, 2], delta * (length - function) + (1 - delta) * function
    )
    recall = ratio(
        matching[:, 1] + matching[:, 3],
        delta * (wanted - wanted_function) + (1 - delta) * wanted_function,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        pieces = statistics[:, 20] / (statistics[:, 21:23].sum(axis=1) / 2)
    scores: FloatArray = np.nan_to_num(mean * (1 - gamma * pieces**beta))
    return np.where(statistics.any(axis=1), scores, np.nan)


def _meteor_statistics(answers: list[str], references: list[tuple[str, ...]]) -> FloatArray:
    from pycocoevalcap.meteor.meteor import Meteor as Program

    wanted, found = _tokens_by_image(answers, references)
    program = Program()
    try:
        told = [program._stat(found[name][0], wanted[name]) for name in wanted]
        counted = np.array([line.split() for line in told], float).reshape(len(told), 23)
    except (OSError, ValueError) as fault:
        with suppress(OSError):
            program.meteor_p.stdin.close()
        raise MetricError(_program_error("meteor", fault)) from fault
    # A caption that matches its reference as a whole is in no piece at all.
    whole = (counted[:, 20] == 1) & (counted[:, 21:23] == counted[:, :2]).all(axis=1)
    counted[whole, 20] = 0
    return counted


class Spice(CorpusMeanMetric):
    def __init__(self) -> None:
        super().__init__("spice")
        require_spice_models(require_pycocoevalcap(self.name))

    def score_corpus(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        from subprocess import CalledProcessError

        from pycocoevalcap.spice.spice import Spice as Program

        try:
            _, scores = Program().compute_score(*_tokens_by_image(answers, references))
        except (OSError, ValueError, CalledProcessError) as fault:
            raise MetricError(_program_error(self.name, fault)) from fault
        return [float(score["All"]["f"]) for score in scores]


def require_pycocoevalcap(metric: str) -> Path:
    """Return the folder of pycocoevalcap. Raises MetricError where it or Java is missing."""
    if shutil.which("java") is None:
        raise MetricError(
            f"metric {metric} runs a Java program and there is no `java` here; install a Java "
            f"runtime, or leave {metric} out of task.metrics"
        )
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise MetricError(
            f"metric {metric} needs pycocoevalcap; install it with pip install 'palitune[captions]', "
            f"or leave {metric} out of task.metrics"
        )
    return Path(found.submodule_search_locations[0])


def require_spice_models(package: Path) -> None:
    """Raise MetricError where SPICE's language models have not been loaded yet."""
    folder = package / "spice" / "lib"
    if not all((folder / file).is_file() for file in _SPICE_MODELS):
        raise MetricError(
            f"metric spice needs the models of Stanford CoreNLP 3.6.0, which are not in {folder}; "
            "load them once where there is network with python -c 'from "
            "pycocoevalcap.spice.get_stanford_models import *; get_stanford_models()'"
        )


def _tokens_by_image(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Write references and predictions as the programs take them: tokens by image.

    Images are numbered with leading zeros, since SPICE returns them in the order of their names.
    """

    def joined(text: str) -> str:
        return " ".join(ptb_tokenize(text))

    names = [f"{number:09}" for number in range(len(answers))]
    wanted = {
        name: [joined(t) for t in texts] for name, texts in zip(names, references, strict=True)
    }
    return wanted, {name: [joined(text)] for name, text in zip(names, answers, strict=True)}


def _program_error(metric: str, error: Exception) -> str:
    reason = str(error).splitlines() or [type(error).__name__]
    return (
        f"metric {metric}: its Java program ended early ({reason[0]}); see that Java has 8 GB of "
        f"memory, or leave {metric} out of task.metrics"
    )
