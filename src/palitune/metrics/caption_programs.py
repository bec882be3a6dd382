"""METEOR and SPICE of captions, by the Java programs that the COCO caption evaluation runs.

Neither has a faithful Python form. pycocoevalcap carries METEOR 1.5 and SPICE 1.0; it is an
optional extra (`pip install 'palitune[captions]'`) and needs Java. SPICE needs the models of
Stanford CoreNLP 3.6.0 besides, which it loads from the network once. Where anything is missing, an
evaluation that asks for them ends with a sentence before it begins, never with a zero.
METEOR's corpus number is no mean over images, so it has no interval.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from palitune.metrics.base import CorpusMeanMetric, Counts, Floats, MetricError
from palitune.metrics.ptb import tokenize

_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class Meteor(CorpusMeanMetric):
    def __init__(self) -> None:
        super().__init__("meteor")
        check_programs(self.name)
        self._corpus = float("nan")

    def judge(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        from pycocoevalcap.meteor.meteor import Meteor as Program

        program = Program()
        try:
            self._corpus, scores = program.compute_score(*_as_files(answers, references))
        except (OSError, ValueError) as fault:
            with suppress(OSError):
                program.meteor_p.stdin.close()
            program.lock.release()  # it is held still, and the end of the object would wait for it
            raise MetricError(_failed(self.name, fault)) from fault
        return list(scores)

    def compute(self) -> dict[str, float]:
        return {self.name: self._corpus if self.scores() else float("nan")}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        return {}


class Spice(CorpusMeanMetric):
    def __init__(self) -> None:
        super().__init__("spice")
        check_models(check_programs(self.name))

    def judge(self, answers: list[str], references: list[tuple[str, ...]]) -> list[float]:
        from subprocess import CalledProcessError

        from pycocoevalcap.spice.spice import Spice as Program

        try:
            _, scores = Program().compute_score(*_as_files(answers, references))
        except (OSError, ValueError, CalledProcessError) as fault:
            raise MetricError(_failed(self.name, fault)) from fault
        return [float(score["All"]["f"]) for score in scores]


def check_programs(name: str) -> Path:
    """Return the folder of pycocoevalcap. Raises MetricError where it or Java is missing."""
    if shutil.which("java") is None:
        raise MetricError(
            f"metric {name} runs a Java program and there is no `java` here; install a Java "
            f"runtime, or leave {name} out of task.metrics"
        )
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise MetricError(
            f"metric {name} needs pycocoevalcap; install it with pip install 'palitune[captions]', "
            f"or leave {name} out of task.metrics"
        )
    return Path(found.submodule_search_locations[0])


def check_models(package: Path) -> None:
    """Raise MetricError where SPICE's language models have not been loaded yet."""
    folder = package / "spice" / "lib"
    if not all((folder / file).is_file() for file in _MODELS):
        raise MetricError(
            f"metric spice needs the models of Stanford CoreNLP 3.6.0, which are not in {folder}; "
            "load them once where there is network with python -c 'from "
            "pycocoevalcap.spice.get_stanford_models import *; get_stanford_models()'"
        )


def _as_files(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Write references and predictions as the programs take them: tokens by image.

    Images are numbered with leading zeros, since SPICE returns them in the order of their names.
    """

    def joined(text: str) -> str:
        return " ".join(tokenize(text))

    names = [f"{number:09}" for number in range(len(answers))]
    wanted = {
        name: [joined(t) for t in texts] for name, texts in zip(names, references, strict=True)
    }
    return wanted, {name: [joined(text)] for name, text in zip(names, answers, strict=True)}


def _failed(name: str, fault: Exception) -> str:
    reason = str(fault).splitlines() or [type(fault).__name__]
    return (
        f"metric {name}: its Java program ended early ({reason[0]}); see that Java has 8 GB of "
        f"memory, or leave {name} out of task.metrics"
    )
