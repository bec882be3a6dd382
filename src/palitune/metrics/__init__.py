"""The metrics by the name under which a task asks for them and a result reports them.

A name carries its variant (`anls_rrc`, `anls_paper`), so that no number is reported without it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from palitune.lazily import lazily

if TYPE_CHECKING:
    from palitune.metrics.base import Metric, MetricError

__getattr__ = lazily(__name__, {"Metric": "base", "MetricError": "base"})


def _maker(module: str, maker: str, *given: str | int) -> "Callable[[], Metric]":
    """Return what imports a metric's module and makes it."""

    def make() -> "Metric":
        made: Metric = getattr(import_module(f"{__name__}.{module}"), maker)(*given)
        return made

    return make


METRICS: "dict[str, Callable[[], Metric]]" = {
    "anls_paper": _maker("anls", "Anls", "paper"),
    "anls_rrc": _maker("anls", "Anls", "rrc"),
    "bleu": _maker("captions", "Bleu", 1, 2, 3, 4),
    "bleu_4": _maker("captions", "Bleu", 4),
    "box_accuracy": _maker("box_accuracy", "BoxAccuracy"),
    "character_error_rate": _maker("error_rate", "CharacterErrorRate"),
    "cider_d": _maker("captions", "CiderD"),
    "detection": _maker("detection_ap", "DetectionAP"),
    "exact_match": _maker("exact_match", "ExactMatch"),
    "exact_match_lower": _maker("exact_match", "ExactMatchLower"),
    "exact_match_number": _maker("exact_match", "ExactMatchNumber"),
    "kern_character_error_rate": _maker("kern", "KernErrorRate", "character"),
    "kern_line_error_rate": _maker("kern", "KernErrorRate", "line"),
    "kern_symbol_error_rate": _maker("kern", "KernErrorRate", "symbol"),
    "meteor": _maker("caption_programs", "Meteor"),
    "pope": _maker("benchmark_answers", "Pope"),
    "referring_segmentation": _maker("segmentation_iou", "ReferringSegmentation"),
    "relaxed_accuracy_pix2struct": _maker("relaxed_accuracy", "RelaxedAccuracy"),
    "rouge_l": _maker("captions", "RougeL"),
    "rsvqa": _maker("benchmark_answers", "Rsvqa"),
    "same_molecule": _maker("molecules", "SameMolecule"),
    "science_qa": _maker("benchmark_answers", "ScienceQa"),
    "segmentation": _maker("segmentation_iou", "Segmentation"),
    "semantic_iou": _maker("semantic_segmentation", "SemanticSegmentation"),
    "spice": _maker("caption_programs", "Spice"),
    "teds": _maker("teds", "Teds"),
    "text_spotting": _maker("text_spotting", "TextSpotting"),
    "vqa_accuracy_official": _maker("vqa_accuracy", "VqaAccuracy", "official"),
    "vqa_accuracy_plain": _maker("vqa_accuracy", "VqaAccuracy", "plain"),
    "vqa_accuracy_textvqa": _maker("vqa_accuracy", "VqaAccuracy", "textvqa"),
    "word_error_rate": _maker("error_rate", "WordErrorRate"),
}
"""What makes a metric, by name; it raises MetricError where a program it needs is missing."""

NEED_EXTRAS = ("meteor", "same_molecule", "spice")
"""Metrics that a plain installation may lack something for; making one says what."""

BEST_CIDER = 10.0
"""CIDEr-D of a caption that equals all its references."""
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


__all__ = ["METRICS", "NEED_EXTRAS", "Metric", "MetricError", "best", "higher_is_better"]
