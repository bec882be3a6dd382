"""The metrics by the name under which a task asks for them and a result reports them.

A name carries its variant (`anls_rrc`, `anls_paper`), so that no number is reported without it.
"""

from collections.abc import Callable

from palitune.metrics.anls import Anls
from palitune.metrics.base import Metric, MetricError
from palitune.metrics.benchmark_answers import Pope, Rsvqa, ScienceQa
from palitune.metrics.box_accuracy import BoxAccuracy
from palitune.metrics.caption_programs import Meteor, Spice
from palitune.metrics.captions import BEST_CIDER, Bleu, CiderD, RougeL
from palitune.metrics.detection_ap import DetectionAP
from palitune.metrics.error_rate import ErrorRate, characters, words
from palitune.metrics.exact_match import ExactMatch, number
from palitune.metrics.kern import KernErrorRate
from palitune.metrics.molecules import SameMolecule
from palitune.metrics.relaxed_accuracy import RelaxedAccuracy
from palitune.metrics.segmentation_iou import ReferringSegmentation, Segmentation
from palitune.metrics.semantic_segmentation import SemanticSegmentation
from palitune.metrics.teds import Teds
from palitune.metrics.text_spotting import TextSpotting
from palitune.metrics.vqa_accuracy import VqaAccuracy

METRICS: dict[str, Callable[[], Metric]] = {
    "anls_paper": lambda: Anls("paper"),
    "anls_rrc": lambda: Anls("rrc"),
    "bleu": lambda: Bleu(1, 2, 3, 4),
    "bleu_4": lambda: Bleu(4),
    "box_accuracy": BoxAccuracy,
    "character_error_rate": lambda: ErrorRate("character_error_rate", characters),
    "cider_d": CiderD,
    "detection": DetectionAP,
    "exact_match": lambda: ExactMatch("exact_match"),
    "exact_match_lower": lambda: ExactMatch("exact_match_lower", str.lower),
    "exact_match_number": lambda: ExactMatch("exact_match_number", number),
    "kern_character_error_rate": lambda: KernErrorRate("character"),
    "kern_line_error_rate": lambda: KernErrorRate("line"),
    "kern_symbol_error_rate": lambda: KernErrorRate("symbol"),
    "meteor": Meteor,
    "pope": Pope,
    "referring_segmentation": ReferringSegmentation,
    "relaxed_accuracy_pix2struct": RelaxedAccuracy,
    "rouge_l": RougeL,
    "rsvqa": Rsvqa,
    "same_molecule": SameMolecule,
    "science_qa": ScienceQa,
    "segmentation": Segmentation,
    "semantic_iou": SemanticSegmentation,
    "spice": Spice,
    "teds": Teds,
    "text_spotting": TextSpotting,
    "vqa_accuracy_official": lambda: VqaAccuracy("official"),
    "vqa_accuracy_plain": lambda: VqaAccuracy("plain"),
    "vqa_accuracy_textvqa": lambda: VqaAccuracy("textvqa"),
    "word_error_rate": lambda: ErrorRate("word_error_rate", words),
}
"""What makes a metric, by name; it raises MetricError where a program it needs is missing."""

_LOWER_IS_BETTER = (
    *("error_rate", "loss", "perplexity", "malformed", "unfinished", "malformed_objects"),
    *("malformed_fragments", "duplicates", "unknown_label"),
)


def higher_is_better(name: str) -> bool:
    """Tell the direction of a reported number by its name, e.g. `ocr/character_error_rate`."""
    return not name.endswith(_LOWER_IS_BETTER)


def best(name: str) -> float:
    """Return the value of a number without fault, e.g. 10 for CIDEr-D and 0 for an error rate."""
    if name.endswith("cider_d"):
        return BEST_CIDER
    return 1.0 if higher_is_better(name) else 0.0


__all__ = ["METRICS", "Metric", "MetricError", "best", "higher_is_better"]
