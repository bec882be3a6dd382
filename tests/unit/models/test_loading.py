"""Loading of base models and processors, and its errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from palitune.errors import ModelError
from palitune.models import attention, hub_files, loading
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import (
    AttentionImplementation,
    Device,
    Dtype,
    Local,
    PaliGemma,
    PaliGemma2,
    Tiny,
)
from palitune.models.loading import load, load_processor
from palitune.models.paligemma import PaliGemmaPrefixLM

FAMILIES = ["paligemma", "paligemma2"]


@pytest.fixture
def model_copy(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny PaliGemma 2 that a test may damage."""
    return Path(shutil.copytree(tiny("paligemma2"), tmp_path / "model"))


def rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


# Settings ----------------------------------------------------------------------------------------


def test_the_embedded_model_is_loaded_with_its_processor() -> None:
    network, processor = load(Tiny()), load_processor(Tiny())
    assert isinstance(network, PaliGemmaPrefixLM)
    assert processor.image_token_id == network.config.image_token_id
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000


@pytest.mark.parametrize(
    ("family", "settings", "name"),
    [
        ("paligemma", {}, attention.SDPA_ATTENTION),
        ("paligemma", {"attention": AttentionImplementation.chunked}, attention.CHUNKED_ATTENTION),
        ("paligemma", {"attention": AttentionImplementation.eager}, "eager"),
        ("paligemma2", {}, attention.CHUNKED_ATTENTION),
        ("paligemma2", {"attention": AttentionImplementation.eager}, "eager"),
        ("paligemma2", {"attention_logit_softcapping": False}, attention.SDPA_ATTENTION),
        (
            "paligemma2",
            {"attention": AttentionImplementation.sdpa, "attention_logit_softcapping": False},
            attention.SDPA_ATTENTION,
        ),
    ],
)
def test_attention_is_chosen_for_the_language_model_alone(
    family: str, settings: dict[str, Any], name: str, tiny: Callable[[str], Path]
) -> None:
    config = load(Local(path=str(tiny(family)), **settings)).config
    assert config.text_config._attn_implementation == name
    assert config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("scores", [True, False])
def test_softcaps_follow_the_settings(
    final: bool, scores: bool, tiny: Callable[[str], Path]
) -> None:
    model = Local(
        path=str(tiny("paligemma2")),
        final_logit_softcapping=final,
        attention_logit_softcapping=scores,
    )
    network = load(model)
    text = network.config.text_config
    assert text.final_logit_softcapping == (30.0 if final else None)
    assert text.attn_logit_softcapping == (50.0 if scores else None)
    layer = network.model.language_model.layers[0].self_attn
    assert layer.attn_logit_softcapping == (50.0 if scores else None)


@pytest.mark.parametrize(
    ("settings", "adapter", "dtype"),
    [
        ({}, Lora(), torch.float32),
        ({}, Full(), torch.float32),
        ({"dtype": Dtype.bf16}, None, torch.bfloat16),
        ({"dtype": Dtype.fp16}, None, torch.float16),
        ({"dtype": Dtype.bf16}, Full(), torch.bfloat16),
    ],
)
def test_weights_are_loaded_in_the_requested_dtype(
    settings: dict[str, Any],
    adapter: AdapterConfig | None,
    dtype: torch.dtype,
    tiny: Callable[[str], Path],
) -> None:
    model = Local(path=str(tiny("paligemma")), device=Device.cpu, **settings)
    assert {p.dtype for p in load(model, adapter).parameters()} == {dtype}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`gpu(bf16=False)`: a machine with a GPU before Ampere, which only emulates bf16."""

    def pretend(*, bf16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True: bf16 or including_emulation,
        )

    return pretend


def test_on_a_gpu_the_base_is_in_bfloat16_unless_all_of_it_is_trained(
    gpu: Callable[..., None],
) -> None:
    gpu(bf16=True)
    assert loading.resolve_dtype(PaliGemma2(), "paligemma2", Lora()) == torch.bfloat16
    assert loading.resolve_dtype(PaliGemma2(), "paligemma2", Full()) == torch.float32
    on_cpu = PaliGemma2(device=Device.cpu)
    assert loading.resolve_dtype(on_cpu, "paligemma2", Lora()) == torch.float32


def test_a_gpu_that_emulates_bfloat16_computes_in_float16_where_that_is_safe(
    gpu: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    gpu(bf16=False)
    assert loading.resolve_dtype(PaliGemma(), "paligemma", Qlora()) == torch.float16
    with caplog.at_level("INFO"):
        assert loading.resolve_dtype(PaliGemma2(), "paligemma2", Qlora()) == torch.float32
    (record,) = caplog.records
    assert "Gemma 2 overflows in fp16: the model computes in fp32" in record.message


def test_a_dtype_that_a_gpu_only_emulates_is_refused(
    gpu: Callable[..., None], tiny: Callable[[str], Path]
) -> None:
    gpu(bf16=False)
    with pytest.raises(
        ModelError, match=r"^model\.dtype=bf16: Tesla T4 .*Set model\.dtype=auto\.$"
    ):
        loading.resolve_dtype(PaliGemma2(dtype=Dtype.bf16), "paligemma2", Lora())
    with pytest.raises(ModelError, match=r"^adapter\.compute_dtype=bf16: Tesla T4 "):
        loading._quantization_config(
            4, Qlora(compute_dtype=Dtype.bf16), torch.float16, torch.device("cuda", 0)
        )


def test_products_of_full_fine_tuning_are_in_bfloat16_on_a_gpu_that_supports_it(
    gpu: Callable[..., None],
) -> None:
    gpu(bf16=True)
    assert loading.resolve_autocast_dtype(PaliGemma2(), Full()) == torch.bfloat16
    assert loading.resolve_autocast_dtype(PaliGemma2(), Lora()) is None
    assert loading.resolve_autocast_dtype(PaliGemma2(dtype=Dtype.fp32), Full()) is None
    assert loading.resolve_autocast_dtype(PaliGemma2(device=Device.cpu), Full()) is None
    gpu(bf16=False)
    assert loading.resolve_autocast_dtype(PaliGemma2(), Full()) is None


def test_the_gpu_of_a_process_is_selected_before_anything_is_allocated(
    gpu: Callable[..., None], tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(bf16=True)
    calls: list[str] = []

    def set_device(device: torch.device) -> None:
        calls.append(f"select {device}")

    def is_supported(including_emulation: bool = True) -> bool:
        calls.append("query")  # initializes CUDA on the current device
        return True

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        calls.append("load")
        raise OSError

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(loading.PaliGemmaPrefixLM, "from_pretrained", from_pretrained)
    with pytest.raises(ModelError):
        load(Local(path=str(tiny("paligemma2"))), Lora())
    assert calls == ["select cuda:0", "query", "load"]


def convert_to_hub_format(folder: Path) -> None:
    """Rewrite a folder in the older format of the released files: names, settings, processor."""
    old = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    names = sorted(old)
    halves = {"a": names[: len(names) // 2], "b": names[len(names) // 2 :]}
    (folder / "model.safetensors").unlink()
    for half, half_names in halves.items():
        tensors = {name: old[name] for name in half_names}
        save_file(tensors, folder / f"model-{half}.safetensors", metadata={"format": "pt"})
    index = {name: f"model-{half}.safetensors" for half, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    rewrite(
        folder / "generation_config.json", lambda c: c.update({"cache_implementation": "static"})
    )

    def add_settings(config: dict[str, Any]) -> None:
        config["text_config"] |= {"cache_implementation": "hybrid", "eos_token_id": [1, 107]}
        del config["text_config"]["use_bidirectional_attention"], config["tie_word_embeddings"]

    rewrite(folder / "config.json", add_settings)
    today = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_convert_rgb": None,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.5, 0.5, 0.5],
                "image_processor_type": "SiglipImageProcessor",
                "image_seq_length": 64,
                "image_std": [0.5, 0.5, 0.5],
                "processor_class": "PaliGemmaProcessor",
                "resample": 3,
                "rescale_factor": 0.00392156862745098,
                "size": today["image_processor"]["size"],
            }
        )
    )


def test_files_in_the_format_of_the_hub_give_the_same_network_and_generate(
    model_copy: Path,
) -> None:
    expected = load(Local(path=str(model_copy)))
    plain = load_processor(Local(path=str(model_copy)))
    convert_to_hub_format(model_copy)
    network = load(Local(path=str(model_copy)))
    processor = load_processor(Local(path=str(model_copy)))
    assert network.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(network.state_dict()[k], v) for k, v in expected.state_dict().items())
    assert network.base_fingerprint == expected.base_fingerprint
    assert processor.image_processor.size == plain.image_processor.size
    ids = torch.tensor([[processor.image_token_id] * 64 + [2, 10, 11]])
    generated = network.generate(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        pixel_values=torch.zeros(1, 3, 112, 112),
        max_new_tokens=3,
        do_sample=False,
    )
    assert generated.shape[1] > ids.shape[1]


@pytest.mark.parametrize("adapter", [Qlora(), Qlora(bits=8)], ids=["nf4", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_linear_layers_of_the_language_model_are_quantized(
    family: str, adapter: Qlora, tiny: Callable[[str], Path]
) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    network = load(Local(path=str(tiny(family))), adapter)
    quantized = sorted(
        name for name, m in network.named_modules() if isinstance(m, Linear4bit | Linear8bitLt)
    )
    assert quantized == Lora(targets=["language"]).target_modules(network)
    assert type(network.lm_head) is torch.nn.Linear


# Errors ------------------------------------------------------------------------------------------


def test_a_folder_without_a_processor_is_refused(model_copy: Path) -> None:
    (model_copy / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=r"the processor cannot be read\. Copy tokenizer\.json"):
        load_processor(Local(path=str(model_copy)))


def test_a_folder_without_a_tokenizer_is_refused(model_copy: Path) -> None:
    (model_copy / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"the processor cannot be read\. Copy tokenizer\.json"):
        load_processor(Local(path=str(model_copy)))


def test_a_folder_without_safetensors_is_refused_even_with_pickled_weights(
    model_copy: Path,
) -> None:
    torch.save(load_file(model_copy / "model.safetensors"), model_copy / "pytorch_model.bin")
    (model_copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the weights cannot be read .*\*\.safetensors"):
        load(Local(path=str(model_copy)))


def test_truncated_weights_are_refused(model_copy: Path) -> None:
    file = model_copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="the weights cannot be read"):
        load(Local(path=str(model_copy)))


def test_a_missing_weight_is_refused_rather_than_initialized(model_copy: Path) -> None:
    tensors = load_file(model_copy / "model.safetensors")
    del tensors["language_model.model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing .*layers\.1\.mlp\.up_proj"):
        load(Local(path=str(model_copy)))


def test_a_processor_of_another_model_is_refused(model_copy: Path) -> None:
    rewrite(model_copy / "config.json", lambda c: c.update({"image_token_index": 7}))
    with pytest.raises(ModelError, match=r"the processor \(<image> is 321, .* Use both"):
        load_processor(Local(path=str(model_copy)))


def test_a_tokenizer_that_splits_location_tokens_is_refused(model_copy: Path) -> None:
    config = hub_files.read_config(model_copy)
    processor = load_processor(Local(path=str(model_copy)))

    class SplittingTokenizer:
        def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
            return [3] * len(tokens)

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": processor.tokenizer(text[:8])["input_ids"]}

    with pytest.raises(ModelError, match="<loc0000> to <loc1023> must be single tokens"):
        loading.check_tokenizer(SimpleNamespace(tokenizer=SplittingTokenizer()), config)


def test_half_precision_is_refused_for_a_local_paligemma_2(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(
        ModelError, match=r"model\.dtype must be bf16 or fp32 for Gemma 2, which overf"
    ):
        load(Local(path=str(tiny("paligemma2")), dtype=Dtype.fp16))


def test_sdpa_is_refused_for_a_local_paligemma_2_with_softcaps(
    tiny: Callable[[str], Path],
) -> None:
    with pytest.raises(ModelError, match=r"model\.attention=sdpa cannot soft-cap"):
        load(Local(path=str(tiny("paligemma2")), attention=AttentionImplementation.sdpa))


def test_a_final_softcap_is_refused_for_a_local_paligemma_1(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="must be false for PaliGemma 1, which has no soft-cap"):
        load(Local(path=str(tiny("paligemma")), final_logit_softcapping=True))


def test_a_missing_gpu_is_refused(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"model\.device=cuda: no GPU is visible"):
        load(Local(path=str(tiny("paligemma")), device=Device.cuda))
