"""Functions that other projects import from palitune.metrics and palitune.codec."""

import inspect
import subprocess
import sys

import pytest

import palitune.codec
import palitune.metrics

TEXT_METRICS = {
    "anls": "(answer, references, *, variant)",
    "vqa_accuracy": "(answer, answers, *, variant)",
    "relaxed_accuracy": "(answer, references)",
    "ptb_tokenize": "(caption)",
    "cider_d": "(predictions, references, *, tokenizer)",
    "bleu": "(predictions, references, *, tokenizer)",
    "rouge_l": "(predictions, references, *, tokenizer)",
    "character_error_rate": "(hypotheses, references)",
    "word_error_rate": "(hypotheses, references)",
}
OBJECT_METRICS = {
    "coco_ap": "(ground_truth, results, kind)",
    "mask_iou": "(a, b)",
}
CODEC = ("encode_boxes", "decode_boxes", "MaskCodec")


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has imported after `code`."""
    code += "\nimport sys\nprint(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(process.stdout.split())


def test_text_metrics_are_imported_without_torch() -> None:
    assert "torch" not in modules_after(f"from palitune.metrics import {', '.join(TEXT_METRICS)}")


def test_object_metrics_and_codec_are_imported_in_a_fresh_process() -> None:
    modules_after(f"from palitune.metrics import {', '.join(OBJECT_METRICS)}")
    modules_after(f"from palitune.codec import {', '.join(CODEC)}")


@pytest.mark.parametrize(("name", "signature"), (TEXT_METRICS | OBJECT_METRICS).items())
def test_metric_functions_keep_their_parameters(name: str, signature: str) -> None:
    parameters = inspect.signature(getattr(palitune.metrics, name)).parameters.values()
    bare = [p.replace(annotation=p.empty, default=p.empty) for p in parameters]
    assert str(inspect.Signature(bare)) == signature
    assert name in palitune.metrics.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"palitune\.metrics.*has no attribute 'anlz'"):
        palitune.metrics.anlz  # noqa: B018
    assert set(CODEC) <= set(dir(palitune.codec)) | set(palitune.codec.__all__)
