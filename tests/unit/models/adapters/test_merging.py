"""What is exported gives, in plain transformers, the logits of base and adapter."""

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
    how: ExportQuantization = ExportQuantization.none,
) -> tuple[torch.Tensor, Any]:
    """Give the logits of base and adapter, and their export as plain transformers reads it."""
    network = load_combined(model, AdapterCombination(paths=[path]), quantized=False)
    expected = reference_logits(network)
    processor = load_processor(model)
    export_merged(network, processor, model, folder, dtype=dtype, quantize=how)
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
    expected, plain = exported(model, path, tmp_path / "made")
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
        _, plain = exported(model, path, tmp_path / "made")
        text = plain.config.text_config
        assert text.final_logit_softcapping == (30.0 if capped else None)
        assert text.attn_logit_softcapping == 50.0
    assert plain.config.vision_config.image_size == 112
    assert plain.generation_config.eos_token_id == 1
    read, own = AutoProcessor.from_pretrained(tmp_path / "made"), load_processor(model)
    assert read.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert read.image_processor.size == own.image_processor.size


def test_weights_are_stored_as_asked_or_as_the_base_has_them(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma")))
    path = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "adapter", std=0.02)
    expected, plain = exported(model, path, tmp_path / "made", Dtype.bf16)
    assert plain.dtype == plain.config.dtype == torch.bfloat16
    assert 1e-4 < (reference_logits(plain) - expected).abs().max() < 0.2
    half = Local(path=str(tmp_path / "made"))
    assert export_dtype(half, Dtype.auto) == torch.bfloat16
    assert export_dtype(model, Dtype.auto) == torch.float32
    assert export_dtype(model, Dtype.fp16) == torch.float16
    with pytest.raises(ModelError, match="Gemma 2 overflows in fp16"):
        export_dtype(Local(path=str(tiny("paligemma2"))), Dtype.fp16)


def test_a_quantized_export_keeps_vision_and_head_whole(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    path = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "adapter", std=0.02)
    expected, plain = exported(model, path, tmp_path / "made", how=ExportQuantization.nf4)
    assert 1e-3 < (reference_logits(plain) - expected).abs().max() < 4
    quantized = {n for n, m in plain.named_modules() if "bitsandbytes" in type(m).__module__}
    assert len(quantized) == 14
    assert all("language_model" in name for name in quantized)
    assert {file.name for file in tmp_path.iterdir()} == {"adapter", "made"}
