"""An export gives, in plain transformers, the logits of base and adapter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from palitune.errors import ModelError
from palitune.export.export_model import export_merged
from palitune.models.adapters.combination import AdapterCombination
from palitune.models.adapters.config import AdapterConfig, Full, Lora
from palitune.models.adapters.merging import export_dtype, load_with_transformers
from palitune.models.config import Dtype, Local
from palitune.models.loading import load, load_combined, load_processor
from palitune.models.quantization import ExportQuantization

from support.tiny_models import reference_logits, save_perturbed_adapter


def exported(
    model: Local,
    path: str,
    folder: Path,
    dtype: Dtype = Dtype.fp32,
    quantize: ExportQuantization = ExportQuantization.none,
) -> tuple[torch.Tensor, Any]:
    """Return the logits of base and adapter, and their export loaded with plain transformers."""
    network = load_combined(model, AdapterCombination(paths=[path]), quantized=False)
    expected = reference_logits(network)
    processor = load_processor(model)
    export_merged(network, processor, model, folder, dtype=dtype, quantize=quantize)
    return expected, load_with_transformers(folder)


HEAD = Lora(rank=4, targets=["language", "vision", "projector", "head"])


@pytest.mark.parametrize(
    ("family", "adapter"),
    [
        ("paligemma2", HEAD),
        ("paligemma", Lora(rank=4, dora=True)),
        ("paligemma2", Full(trainable_parts=["language.mlp", "projector"])),
    ],
    ids=["head", "dora", "full"],
)
def test_an_export_gives_the_logits_of_unquantized_base_and_adapter(
    family: str, adapter: AdapterConfig, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny(family)))
    path = save_perturbed_adapter(model, adapter, tmp_path / "adapter", std=0.02)
    expected, plain = exported(model, path, tmp_path / "export")
    assert type(plain) is PaliGemmaForConditionalGeneration
    assert plain.config.architectures == ["PaliGemmaForConditionalGeneration"]
    torch.testing.assert_close(reference_logits(plain), expected, atol=2e-5, rtol=0)
    assert (expected - reference_logits(load(model))).abs().max() > 0.05
    shared = plain.lm_head.weight is plain.get_input_embeddings().weight
    assert plain.config.tie_word_embeddings == shared == (adapter is not HEAD)


def test_softcaps_resolution_and_processor_are_those_of_the_training(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    for capped in (True, False):
        trained = replace(model, final_logit_softcapping=capped)
        path = save_perturbed_adapter(trained, Lora(rank=2), tmp_path / "adapter", std=0.02)
        _, plain = exported(model, path, tmp_path / "export")
        text = plain.config.text_config
        assert text.final_logit_softcapping == (30.0 if capped else None)
        assert text.attn_logit_softcapping == 50.0
    assert plain.config.vision_config.image_size == 112
    assert plain.generation_config.eos_token_id == 1
    exported_processor = AutoProcessor.from_pretrained(tmp_path / "export")
    processor = load_processor(model)
    assert exported_processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert exported_processor.image_processor.size == processor.image_processor.size


def test_weights_are_stored_in_the_requested_dtype_or_that_of_the_base(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma")))
    path = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "adapter", std=0.02)
    expected, plain = exported(model, path, tmp_path / "export", Dtype.bf16)
    assert plain.dtype == plain.config.dtype == torch.bfloat16
    assert 1e-4 < (reference_logits(plain) - expected).abs().max() < 0.2
    half = Local(path=str(tmp_path / "export"))
    assert export_dtype(half, Dtype.auto) == torch.bfloat16
    assert export_dtype(model, Dtype.auto) == torch.float32
    assert export_dtype(model, Dtype.fp16) == torch.float16
    with pytest.raises(ModelError, match="for Gemma 2, which overflows in fp16"):
        export_dtype(Local(path=str(tiny("paligemma2"))), Dtype.fp16)


def test_a_quantized_export_keeps_vision_and_head_whole(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    path = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "adapter", std=0.02)
    expected, plain = exported(model, path, tmp_path / "export", quantize=ExportQuantization.nf4)
    assert 1e-3 < (reference_logits(plain) - expected).abs().max() < 4
    quantized = {n for n, m in plain.named_modules() if "bitsandbytes" in type(m).__module__}
    assert len(quantized) == 14
    assert all("language_model" in name for name in quantized)
    assert {file.name for file in tmp_path.iterdir()} == {"adapter", "export"}
