"""Registry of the metrics by name, and the metric functions of the public library.

A name includes the variant (`anls_rrc`, `anls_paper`), so that every reported value states it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from palitune.metrics.value_range import higher_is_better, perfect_value

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
"""Module of each public function, imported on first use (PEP 562)."""


def __getattr__(name: str) -> Any:
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)


def _factory(module: str, class_name: str, *args: str | int) -> "Callable[[], Metric]":
    """Return a constructor that imports the module of the metric when it is called."""

    def create() -> "Metric":
        metric: Metric = getattr(import_module(f"{__name__}.{module}"), class_name)(*args)
        return metric

    return create


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
    "json_fields": _factory("text.json_fields", "JsonFields"),
    "json_malformed": _factory("text.json_fields", "JsonMalformed"),
    "json_tree": _factory("text.json_fields", "JsonTree"),
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
    "semantic_iou": _factory("objects.semantic_iou", "SemanticSegmentation"),
    "spice": _factory("captions.meteor_spice", "Spice"),
    "teds": _factory("text.teds", "Teds"),
    "text_spotting": _factory("objects.text_spotting", "TextSpotting"),
    "vqa_accuracy_official": _factory("text.vqa_accuracy", "VqaAccuracy", "official"),
    "vqa_accuracy_plain": _factory("text.vqa_accuracy", "VqaAccuracy", "plain"),
    "vqa_accuracy_textvqa": _factory("text.vqa_accuracy", "VqaAccuracy", "textvqa"),
    "word_error_rate": _factory("text.error_rate", "WordErrorRate"),
}
"""Constructor of each metric by name. Raises MetricError if a required program is missing."""

METRICS_WITH_EXTRAS = ("meteor", "same_molecule", "spice")
"""Metrics that require an optional package or Java; without it, they raise MetricError."""

OBJECT_METRICS = (
    "box_accuracy",
    "detection",
    "referring_segmentation",
    "segmentation",
    "semantic_iou",
    "text_spotting",
)
"""Metrics of objects; the others score text."""

__all__ = [
    "METRICS",
    "METRICS_WITH_EXTRAS",
    "OBJECT_METRICS",
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
