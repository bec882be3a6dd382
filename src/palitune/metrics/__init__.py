"""The metrics by the name under which a task asks for them and a result reports them.

A name carries its variant (`anls_rrc`, `anls_paper`), so that no number is reported without it.
"""

from collections.abc import Callable

from palitune.metrics.anls import Anls
from palitune.metrics.base import Metric
from palitune.metrics.box_accuracy import BoxAccuracy
from palitune.metrics.detection_ap import DetectionAP
from palitune.metrics.error_rate import ErrorRate, characters, words
from palitune.metrics.exact_match import ExactMatch
from palitune.metrics.segmentation_iou import ReferringSegmentation, Segmentation
from palitune.metrics.text_spotting import TextSpotting
from palitune.metrics.vqa_accuracy import VqaAccuracy

METRICS: dict[str, Callable[[], Metric]] = {
    "anls_paper": lambda: Anls("paper"),
    "anls_rrc": lambda: Anls("rrc"),
    "box_accuracy": BoxAccuracy,
    "character_error_rate": lambda: ErrorRate("character_error_rate", characters),
    "detection": DetectionAP,
    "exact_match": lambda: ExactMatch("exact_match"),
    "exact_match_lower": lambda: ExactMatch("exact_match_lower", lower=True),
    "referring_segmentation": ReferringSegmentation,
    "segmentation": Segmentation,
    "text_spotting": TextSpotting,
    "vqa_accuracy_official": lambda: VqaAccuracy("official"),
    "vqa_accuracy_plain": lambda: VqaAccuracy("plain"),
    "vqa_accuracy_textvqa": lambda: VqaAccuracy("textvqa"),
    "word_error_rate": lambda: ErrorRate("word_error_rate", words),
}

_LOWER_IS_BETTER = ("error_rate", "malformed", "unfinished", "malformed_objects", "loss")


def higher_is_better(name: str) -> bool:
    """Tell the direction of a reported number by its name, e.g. `ocr/character_error_rate`."""
    return not name.endswith(_LOWER_IS_BETTER)


__all__ = ["METRICS", "Metric", "higher_is_better"]
