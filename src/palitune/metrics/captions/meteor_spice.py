"""METEOR and SPICE of captions, computed by the Java programs of the COCO caption evaluation.

Neither has a faithful Python version. pycocoevalcap contains METEOR 1.5 and SPICE 1.0; it is an
optional extra (`pip install 'palitune[captions]'`) and requires Java. SPICE also requires the
models of Stanford CoreNLP 3.6.0, which are downloaded once. If anything is missing, an evaluation
with these metrics fails before it starts; it never reports zero. METEOR's corpus value is computed
from sums over images and is not a mean of their scores.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np

from palitune.errors import MetricError
from palitune.metrics.base import CorpusMeanMetric, CorpusMetric, FloatArray, ResampleCounts, ratio
from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize

_SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class Meteor(CorpusMetric):
    """METEOR from the match statistics that the Java program counts for each caption."""

    num_statistics: ClassVar[int] = 23

    def __init__(self) -> None:
        super().__init__()
        require_pycocoevalcap("meteor")

    def corpus_statistics(
        self, answers: list[str], references: list[tuple[str, ...]]
    ) -> FloatArray:
        from pycocoevalcap.meteor.meteor import Meteor as Program

        reference_tokens, answer_tokens = _tokens_by_image(answers, references)
        program = Program()
        try:
            lines = [
                program._stat(answer_tokens[name][0], texts)
                for name, texts in reference_tokens.items()
            ]
            counts = np.array([line.split() for line in lines], float)
            counts = counts.reshape(len(lines), self.num_statistics)
        except (OSError, ValueError) as error:
            with suppress(OSError):
                program.meteor_p.stdin.close()
            raise MetricError(_program_error("meteor", error)) from error
        # METEOR counts no chunk for a caption that matches its reference completely.
        complete = (counts[:, 20] == 1) & (counts[:, 21:23] == counts[:, :2]).all(axis=1)
        counts[complete, 20] = 0
        return counts

    def per_example_scores(self) -> list[dict[str, float]]:
        return [{"meteor": score} for score in meteor_scores(self.statistics()).tolist()]

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {"meteor": meteor_scores(counts @ self.statistics())}


def meteor_scores(statistics: FloatArray) -> FloatArray:
    """Return METEOR of each row of summed statistics, (rows,); NaN for a row of zeros.

    Columns: length of caption and reference, function words of both; for each kind of match
    (exact, stem, synonym, paraphrase) matching content words of both, then function words of both;
    chunks, matching words of both. The constants and their names are METEOR 1.5's for English.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    length, reference_length, function_words, reference_function_words = statistics[:, :4].T
    kinds = statistics[:, 4:20].reshape(-1, 4, 4) @ np.diag([delta, delta, 1 - delta, 1 - delta])
    matching = np.einsum("rkc,k->rc", kinds, weights)
    precision = ratio(
        matching[:, 0] + matching[:, 2],
        delta * (length - function_words) + (1 - delta) * function_words,
    )
    recall = ratio(
        matching[:, 1] + matching[:, 3],
        delta * (reference_length - reference_function_words)
        + (1 - delta) * reference_function_words,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        fragmentation = statistics[:, 20] / (statistics[:, 21:23].sum(axis=1) / 2)
    scores: FloatArray = np.nan_to_num(mean * (1 - gamma * fragmentation**beta))
    return np.where(statistics.any(axis=1), scores, np.nan)


class Spice(CorpusMeanMetric):
    def __init__(self) -> None:
        super().__init__("spice")
        require_spice_models(require_pycocoevalcap(self.name))

    def corpus_statistics(
        self, answers: list[str], references: list[tuple[str, ...]]
    ) -> FloatArray:
        from subprocess import CalledProcessError

        from pycocoevalcap.spice.spice import Spice as Program

        try:
            _, scores = Program().compute_score(*_tokens_by_image(answers, references))
        except (OSError, ValueError, CalledProcessError) as error:
            raise MetricError(_program_error(self.name, error)) from error
        return np.array([[float(score["All"]["f"])] for score in scores])


def require_pycocoevalcap(metric: str) -> Path:
    """Return the folder of pycocoevalcap. Raises MetricError if it or Java is missing."""
    if shutil.which("java") is None:
        raise MetricError(
            f"metric {metric} requires Java, but `java` was not found. Install a Java runtime or "
            f"remove {metric} from task.metrics."
        )
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise MetricError(
            f"metric {metric} requires pycocoevalcap. Run pip install 'palitune[captions]' or "
            f"remove {metric} from task.metrics."
        )
    return Path(spec.submodule_search_locations[0])


def require_spice_models(package: Path) -> None:
    """Raise MetricError if SPICE's language models have not been downloaded."""
    folder = package / "spice" / "lib"
    if not all((folder / file).is_file() for file in _SPICE_MODELS):
        raise MetricError(
            f"metric spice requires the models of Stanford CoreNLP 3.6.0, which are not in "
            f"{folder}. Download them once with python -c 'from "
            "pycocoevalcap.spice.get_stanford_models import *; get_stanford_models()'."
        )


def _tokens_by_image(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the tokens of references and predictions by image, the input of the programs.

    Images are numbered with leading zeros, because SPICE sorts its results by image name.
    """

    def tokenize(text: str) -> str:
        return " ".join(ptb_tokenize(text))

    names = [f"{index:09}" for index in range(len(answers))]
    reference_tokens = {
        name: [tokenize(text) for text in texts]
        for name, texts in zip(names, references, strict=True)
    }
    return reference_tokens, {
        name: [tokenize(text)] for name, text in zip(names, answers, strict=True)
    }


def _program_error(metric: str, error: Exception) -> str:
    reason = str(error).splitlines() or [type(error).__name__]
    return (
        f"metric {metric}: the Java program failed ({reason[0]}). Make sure that Java has 8 GB of "
        f"memory or remove {metric} from task.metrics."
    )
