"""Memory, device and dtype of an export."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import PaliGemmaConfig

from palitune.errors import ModelError
from palitune.export import export_model
from palitune.export import greedy_outputs as greedy_outputs_module
from palitune.export.export_model import MEMORY_PER_WEIGHT_BYTE, export_merged, export_settings
from palitune.export.greedy_outputs import GreedyOutput, greedy_outputs, outputs_for_references
from palitune.export.samples import DEFAULT_IMAGE, _prompt_example
from palitune.models.adapters.config import Lora
from palitune.models.adapters.merging import merge_adapter
from palitune.models.adapters.peft_layers import inject_lora
from palitune.models.config import Device, Dtype, Local, Tiny
from palitune.models.hub_files import count_parameters
from palitune.models.loading import load, load_for_training, load_processor
from palitune.models.paligemma import PaliGemmaPrefixLM
from palitune.models.quantization import ExportQuantization

from support.live_tensors import LiveTensors
from support.tiny_models import build_model, build_processor

SCALE = 8
"""Widths of the 3B model are divided by this; the numbers of layers are those of the 3B model."""


def scaled_3b() -> PaliGemmaPrefixLM:
    """PaliGemma 2 3B in bfloat16 with an eighth of each width and of the vocabulary."""
    small = build_model(build_processor(), "paligemma2").config.to_dict()
    text = {
        "vocab_size": 257216 // SCALE,
        "hidden_size": 2304 // SCALE,
        "intermediate_size": 9216 // SCALE,
        "num_hidden_layers": 26,
        "layer_types": None,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256 // SCALE,
    }
    vision = {
        "hidden_size": 1152 // SCALE,
        "intermediate_size": 4304 // SCALE,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    config = PaliGemmaConfig(
        text_config=small["text_config"] | text,
        vision_config=small["vision_config"] | vision | {"projection_dim": 2304 // SCALE},
        projection_dim=2304 // SCALE,
        image_token_index=small["image_token_index"],
    )
    torch.manual_seed(0)
    return PaliGemmaPrefixLM(config).to(torch.bfloat16)


def with_lora(network: PaliGemmaPrefixLM, *, dora: bool, head: bool) -> Any:
    """Add a random LoRA to the language model and the vision tower."""
    targets = Lora(targets=["language", "vision", *(["head"] if head else [])])
    config = LoraConfig(r=4, target_modules=targets.target_modules(network), use_dora=dora)
    adapted = inject_lora(network, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    return adapted.eval()


@pytest.mark.parametrize(
    ("dora", "head"), [(False, False), (True, False), (False, True)], ids=["lora", "dora", "head"]
)
def test_merging_and_saving_stay_within_the_memory_of_the_base(
    dora: bool, head: bool, tmp_path: Path
) -> None:
    network = with_lora(scaled_3b(), dora=dora, head=head)
    base = network.get_base_model()
    base_bytes = sum(p.nbytes for name, p in base.named_parameters() if "lora_" not in name)
    own_head = base.lm_head.weight.nbytes if head else 0  # the export stores it as well
    with LiveTensors() as live:
        export_merged(
            network,
            build_processor(),
            Tiny(),
            tmp_path,
            dtype=Dtype.bf16,
            quantize=ExportQuantization.none,
        )
    assert (tmp_path / "model.safetensors").stat().st_size >= base_bytes
    assert base_bytes + live.peak_bytes <= MEMORY_PER_WEIGHT_BYTE * (base_bytes + own_head)


@pytest.mark.parametrize("dora", [False, True])
def test_a_merged_weight_is_that_of_peft_in_float32_rounded_once(
    dora: bool, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palitune.models.adapters.merging.ROWS_PER_BLOCK", 48)  # several blocks
    model = Local(path=str(tiny("paligemma2")), dtype=Dtype.bf16)

    def adapted(dtype: Dtype) -> Any:
        base = load(replace(model, dtype=Dtype.bf16)).to(
            torch.float32 if dtype is Dtype.fp32 else torch.bfloat16
        )
        torch.manual_seed(0)
        return with_lora(base, dora=dora, head=False)

    exact = adapted(Dtype.fp32)
    rounded = adapted(Dtype.bf16)
    rounded.load_state_dict(
        {k: v for k, v in exact.state_dict().items() if "lora_" in k}, strict=False
    )
    expected = exact.merge_and_unload().state_dict()
    merged = merge_adapter(rounded).state_dict()
    assert expected.keys() == merged.keys()
    for name, weight in merged.items():
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(
            weight.float(), expected[name].bfloat16().float(), atol=0, rtol=2**-7, msg=name
        )
        changed = (weight.float() != expected[name].bfloat16().float()).float().mean()
        assert changed < 0.01, name  # products in another order, near a tie


def test_a_network_with_lora_is_freed_without_the_garbage_collector(
    tiny: Callable[[str], Path],
) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma"))), Lora(rank=2))
    gc.collect()
    gc.disable()
    try:
        weight = weakref.ref(network.get_base_model().lm_head.weight)
        del network
        assert weight() is None
    finally:
        gc.enable()


def test_the_export_generates_once_for_all_references(monkeypatch: pytest.MonkeyPatch) -> None:
    network, processor = load(Tiny()), load_processor(Tiny())
    examples = [_prompt_example(DEFAULT_IMAGE, prompt) for prompt in ("ocr", "detect 5")]
    own = greedy_outputs(network, processor, examples, 8)
    other = [GreedyOutput(output.token_ids[:2], output.logits[:2]) for output in own]
    count = 0
    generate = greedy_outputs_module._generate_greedy

    def counted(*args: Any) -> list[int]:
        nonlocal count
        count += 1
        return generate(*args)

    monkeypatch.setattr(greedy_outputs_module, "_generate_greedy", counted)
    first, second, third = outputs_for_references(
        network, processor, examples, 8, [own, other, own]
    )
    assert count == len(examples)
    for expected, short, output, cut, again in zip(own, other, first, second, third, strict=True):
        assert output.token_ids == cut.token_ids == again.token_ids == expected.token_ids
        torch.testing.assert_close(output.logits, expected.logits)
        torch.testing.assert_close(cut.logits, short.logits)
        assert again.logits is not cut.logits


def test_the_base_is_loaded_in_the_dtype_of_the_export(tiny: Callable[[str], Path]) -> None:
    model = Local(path=str(tiny("paligemma")))
    assert export_settings(model, Dtype.auto).dtype is Dtype.fp32
    assert export_settings(model, Dtype.bf16).dtype is Dtype.bf16
    assert export_settings(Tiny(), Dtype.auto).dtype is Dtype.bf16


def test_an_export_that_does_not_fit_on_the_gpu_runs_on_the_cpu(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = Local(path=str(tiny("paligemma")))
    weights = 4 * count_parameters(Path(model.path))
    assert weights == sum(p.nbytes for p in load(model).parameters())
    free = int(MEMORY_PER_WEIGHT_BYTE * weights) + 1
    monkeypatch.setattr(
        export_model, "resolve_device", lambda _: torch.device("cuda", 0), raising=True
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    assert export_settings(model, Dtype.fp32).device is Device.auto
    assert not [each for each in caplog.records if each.levelname == "WARNING"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free - 2, 2 * free))
    assert export_settings(model, Dtype.fp32).device is Device.cpu
    [message] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "the export needs about" in message
    assert "so it runs on the CPU" in message
    with pytest.raises(ModelError, match=r"model\.device=cuda: .* Set model\.device=cpu"):
        export_settings(replace(model, device=Device.cuda), Dtype.fp32)
