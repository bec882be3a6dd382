"""The metrics by the name under which a task asks for them and a result reports them.

A name carries its variant (`anls_rrc`, `anls_paper`), so that no number is reported without it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palitune.metrics.base import Metric
    from palitune.metrics.captions.cider_bleu_rouge import bleu, cider_d, rouge_l
    from palitune.metrics.captions.ptb_tokenizer import ptb_tokenize
    from palitune.metrics.objects.detection import coco_ap
    from palitune.metrics.objects.segmentation import mask_iou
    from palitune.metrics.text.anls import anls
    from palitune.metrics.text.error_rate import character_error_rate, word_error_rate
    from palitune.metrics.text.relaxed_accuracy import relaxed_accuracy
    from palitune.metrics.text.vqa_accuracy import vqa_accuracy

_FUNCTIONS = {
    "anls": "text.anls",
    "bleu": "captions.cider_bleu_rouge",
    "character_error_rate": "text.error_rate",
    "cider_d": "captions.cider_bleu_rouge",
    "coco_ap": "objects.detection",
    "mask_iou": "objects.segmentation",
    "ptb_tokenize": "captions.ptb_tokenizer",
    "relaxed_accuracy": "text.relaxed_accuracy",
    "rouge_l": "captions.cider_bleu_rouge",
    "vqa_accuracy": "text.vqa_accuracy",
    "word_error_rate": "text.error_rate",
}
"""Module of every plain function of the public surface, imported on first use (PEP 562)."""


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)


def _factory(module: str, class_name: str, *args: str | int) -> "Callable[[], Metric]":
    """Return what imports a metric's module and makes it."""

    def make() -> "Metric":
        made: Metric = getattr(import_module(f"{__name__}.{module}"), class_name)(*args)
        return made

    return make


METRICS: "dict[str, Callable[[], Metric]]" = {
    "anls_paper": _factory("text.anls", "Anls", "paper"),
    "anls_rrc": _factory("text.anls", "Anls", "rrc"),
    "bleu": _factory("captions.cider_bleu_rouge", "Bleu", 1, 2, 3, 4),
    "bleu_4": _factory("captions.cider_bleu_rouge", "Bleu", 4),
    "box_accuracy": _factory("objects.box_accuracy", "BoxAccuracy"),
    "character_error_rate": _factory("text.error_rate", "CharacterErrorRate"),
    "cider_d": _factory("captions.cider_bleu_rouge", "CiderD"),
    "detection": _factory("objects.detection", "DetectionAP"),
    "exact_match": _factory("text.exact_match", "ExactMatch"),
    "exact_match_lower": _factory("text.exact_match", "ExactMatchLower"),
    "exact_match_number": _factory("text.exact_match", "ExactMatchNumber"),
    "kern_character_error_rate": _factory("text.kern", "KernErrorRate", "character"),
    "kern_line_error_rate": _factory("text.kern", "KernErrorRate", "line"),
    "kern_symbol_error_rate": _factory("text.kern", "KernErrorRate", "symbol"),
    "meteor": _factory("captions.meteor_spice", "Meteor"),
    "pope": _factory("text.science_qa_pope_rsvqa", "Pope"),
    "referring_segmentation": _factory("objects.segmentation", "ReferringSegmentation"),
    "relaxed_accuracy_pix2struct": _factory("text.relaxed_accuracy", "RelaxedAccuracy"),
    "rouge_l": _factory("captions.cider_bleu_rouge", "RougeL"),
    "rsvqa": _factory("text.science_qa_pope_rsvqa", "Rsvqa"),
    "same_molecule": _factory("text.smiles", "SameMolecule"),
    "science_qa": _factory("text.science_qa_pope_rsvqa", "ScienceQa"),
    "segmentation": _factory("objects.segmentation", "Segmentation"),
    "semantic_iou": _factory("objects.semantic_segmentation", "SemanticSegmentation"),
    "spice": _factory("captions.meteor_spice", "Spice"),
    "teds": _factory("text.teds", "Teds"),
    "text_spotting": _factory("objects.text_spotting", "TextSpotting"),
    "vqa_accuracy_official": _factory("text.vqa_accuracy", "VqaAccuracy", "official"),
    "vqa_accuracy_plain": _factory("text.vqa_accuracy", "VqaAccuracy", "plain"),
    "vqa_accuracy_textvqa": _factory("text.vqa_accuracy", "VqaAccuracy", "textvqa"),
    "word_error_rate": _factory("text.error_rate", "WordErrorRate"),
}
"""What makes a metric, by name; it raises MetricError where a program it needs is missing."""

METRICS_WITH_EXTRAS = ("meteor", "same_molecule", "spice")
"""Metrics that a plain installation may lack something for; making one says what."""

MAX_CIDER_D = 10.0
"""CIDEr-D of a caption that equals all its references."""
_LOWER_IS_BETTER = (
    *("error_rate", "loss", "perplexity", "malformed", "unfinished", "malformed_objects"),
    *("malformed_fragments", "duplicates", "unknown_label"),
)


def higher_is_better(name: str) -> bool:
    """Tell the direction of a reported number by its name, e.g. `ocr/character_error_rate`."""
    return not name.endswith(_LOWER_IS_BETTER)


def perfect_value(name: str) -> float:
    """Return the value of a number without fault, e.g. 10 for CIDEr-D and 0 for an error rate."""
    if name.endswith("cider_d"):
        return MAX_CIDER_D
    return 1.0 if higher_is_better(name) else 0.0


__all__ = [
    "METRICS",
    "METRICS_WITH_EXTRAS",
    "anls",
    "bleu",
    "character_error_rate",
    "cider_d",
    "coco_ap",
    "higher_is_better",
    "mask_iou",
    "perfect_value",
    "ptb_tokenize",
    "relaxed_accuracy",
    "rouge_l",
    "vqa_accuracy",
    "word_error_rate",
]
