"""Read a base model and its processor, checked, or say in one sentence why it cannot be done."""

import logging
import os
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PaliGemmaProcessor

from palitune.errors import ModelError
from palitune.models import attention
from palitune.models.adapters.checkpoint import AdapterMetadata, load_adapter
from palitune.models.adapters.combination import AdapterCombination, combine_adapters
from palitune.models.adapters.config import AdapterConfig, Full, Qlora
from palitune.models.config import AttentionImplementation, Device, Dtype, ModelConfig, Network
from palitune.models.hub_files import family, fetch_model, fingerprint, read_config
from palitune.models.paligemma import PaliGemmaPrefixLM
from palitune.models.quantization import bitsandbytes_config

TORCH_DTYPES = {Dtype.bf16: torch.bfloat16, Dtype.fp32: torch.float32, Dtype.fp16: torch.float16}

LOC_TOKENS = [f"<loc{number:04d}>" for number in range(1024)]
SEG_TOKENS = [f"<seg{number:03d}>" for number in range(128)]

# They report optional kernels that are not installed, and with int8 every layer of every step.
for _library in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_library).setLevel(logging.ERROR)


def load_processor(model: ModelConfig) -> Any:
    """Read tokenizer and image processor, and check that the model knows their tokens."""
    folder = fetch_model(model, weights=False)
    config = read_config(folder)
    try:
        processor = PaliGemmaProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as fault:
        raise ModelError(
            f"{model.name_or_path()}: there is no readable processor; copy tokenizer.json, "
            "tokenizer_config.json and preprocessor_config.json of a released PaliGemma there"
        ) from fault
    check_tokenizer(processor, config)
    return processor


def load(model: ModelConfig, adapter: AdapterConfig | None = None) -> Network:
    """Read the base model, quantized where `adapter` is qlora; the adapter is not put on."""
    return load_base(model, adapter, adapter.quantization_bits() if adapter else None)


def load_for_training(model: ModelConfig, adapter: AdapterConfig) -> Network:
    """Read the base model and put the adapter on, to be trained: new, or saved in its `path`."""
    if adapter.path is None:
        return adapter.apply_to(load(model, adapter))
    record = AdapterMetadata.read(adapter.path)
    base = load(with_saved_softcaps(model, record), adapter)
    network = load_adapter(
        base, adapter.path, trainable=True, allow_base_mismatch=adapter.allow_base_mismatch
    )
    adapter.check_matches_saved(network)
    return network


def load_for_inference(model: ModelConfig, adapter: AdapterConfig) -> Network:
    """Read the base model with the adapter in `path`, as it was trained; alone without a path.

    What was trained counts, quantization included, whatever kind `adapter` is.
    """
    if adapter.path is None:
        return load(model, adapter)
    record = AdapterMetadata.read(adapter.path)
    kind = Full() if record.adapter == Full.name else adapter
    base = load_base(with_saved_softcaps(model, record), kind, record.bits)
    return load_adapter(base, adapter.path, allow_base_mismatch=adapter.allow_base_mismatch)


def load_combined(
    model: ModelConfig, combination: AdapterCombination, *, quantized: bool
) -> Network:
    """Read the base model and put adapters on as one.

    `quantized`: the base as the first adapter had it in training; else in float32.
    """
    record = AdapterMetadata.read(combination.paths[0])
    if not quantized:
        model = replace(model, dtype=Dtype.fp32)
    kind = Full() if record.adapter == Full.name else None
    base = load_base(with_saved_softcaps(model, record), kind, record.bits if quantized else None)
    adapted = load_adapter(
        base, combination.paths[0], allow_base_mismatch=combination.allow_base_mismatch
    )
    return combine_adapters(adapted, combination)


def with_saved_softcaps(model: ModelConfig, metadata: AdapterMetadata) -> ModelConfig:
    """Apply the soft-caps that an adapter was trained with."""
    return replace(
        model,
        final_logit_softcapping=metadata.final_logit_softcapping,
        attention_logit_softcapping=metadata.attention_logit_softcapping,
    )


def load_base(model: ModelConfig, adapter: AdapterConfig | None, bits: int | None) -> Network:
    """Read the base model, quantized to `bits` per weight; the adapter is not put on."""
    folder = fetch_model(model, weights=True)
    config = read_config(folder)
    configure_softcaps(model, config)
    device, dtype = resolve_device(model), resolve_dtype(model, adapter)
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError("model.dtype: Gemma 2 overflows in fp16; use bf16 or fp32")
    attention.register()
    try:
        network, found = PaliGemmaPrefixLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation={
                "text_config": resolve_attn_implementation(model, config),
                "vision_config": "sdpa",
            },
            device_map={"": device},
            quantization_config=_quantization_config(bits, adapter, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        network.base_fingerprint = fingerprint(folder)
    except (OSError, SafetensorError) as fault:
        raise ModelError(
            f"{model.name_or_path()}: the weights cannot be read ({fault}); give a complete checkpoint "
            "with *.safetensors files"
        ) from fault
    if odd := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise ModelError(
            f"{model.name_or_path()}: {len(odd)} weights are missing or misshapen, first {odd[0]}; give "
            "a complete PaliGemma checkpoint"
        )
    if bits == 4:
        from palitune.models.expanding import cache_dequantized

        cache_dequantized(network)
    # A checkpoint may ask for a static cache, whose masks PaliGemma cannot take.
    network.generation_config.cache_implementation = None
    return network


def resolve_device(model: ModelConfig) -> torch.device:
    """Give the device of this process; under a launcher of several, the one of its local rank."""
    available = torch.cuda.is_available()
    if model.device is Device.cuda and not available:
        raise ModelError("model.device=cuda: no GPU is visible to torch; use model.device=cpu")
    if model.device is Device.cpu or not available:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def resolve_dtype(model: ModelConfig, adapter: AdapterConfig | None = None) -> torch.dtype:
    """Give the dtype of the base model's weights."""
    if model.dtype is not Dtype.auto:
        return TORCH_DTYPES[model.dtype]
    on_gpu = resolve_device(model).type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if on_gpu and not isinstance(adapter, Full) else torch.float32


def resolve_attn_implementation(model: ModelConfig, config: Any) -> str:
    """Give the name of the language model's attention, soft-caps being settled in `config`."""
    capped = family(config) == "paligemma2" and config.text_config.attn_logit_softcapping
    if model.attention is AttentionImplementation.eager:
        return "eager"
    if model.attention is AttentionImplementation.chunked or (
        model.attention is AttentionImplementation.auto and capped
    ):
        return attention.CHUNKED_ATTENTION
    if capped:
        raise ModelError(
            "model.attention: sdpa cannot soft-cap attention scores; use chunked, or set "
            "model.attention_logit_softcapping=false"
        )
    return attention.SDPA_ATTENTION


def check_tokenizer(processor: Any, config: Any) -> None:
    """Refuse a tokenizer that would write <loc> or <seg> in pieces, or another model's."""
    tokenizer = processor.tokenizer
    for tokens in (LOC_TOKENS, SEG_TOKENS):
        ids = tokenizer.convert_tokens_to_ids(tokens)
        whole = tokenizer("".join(tokens), add_special_tokens=False)["input_ids"]
        if whole != ids or ids != list(range(ids[0], ids[0] + len(ids))):
            raise ModelError(
                f"the tokenizer does not know {tokens[0]} to {tokens[-1]} as single tokens in a "
                "row; take the processor of a released PaliGemma"
            )
    known = config.text_config.vocab_size
    if processor.image_token_id != config.image_token_id or len(tokenizer) > known:
        raise ModelError(
            f"the processor (<image> is {processor.image_token_id}, {len(tokenizer)} tokens) is "
            f"not this model's (<image> is {config.image_token_id}, {known} tokens); take both "
            "from one checkpoint"
        )


def configure_softcaps(model: ModelConfig, config: Any) -> None:
    text = config.text_config
    if family(config) == "paligemma":
        if model.final_logit_softcapping:
            raise ModelError(
                "model.final_logit_softcapping: PaliGemma 1 has no soft-cap; leave it false"
            )
        return
    if not model.final_logit_softcapping:
        text.final_logit_softcapping = None
    if not model.attention_logit_softcapping:
        text.attn_logit_softcapping = None


def _quantization_config(
    bits: int | None, adapter: AdapterConfig | None, dtype: torch.dtype
) -> Any:
    if bits is None:
        return None
    _disable_inference_repacking()
    asked = adapter.compute_dtype if isinstance(adapter, Qlora) else Dtype.auto
    return bitsandbytes_config(bits, TORCH_DTYPES.get(asked, dtype))


def _disable_inference_repacking() -> None:
    """Keep bitsandbytes from repacking 4-bit weights for inference on CPUs with AVX512-BF16.

    It does so in the first forward pass without gradients, in place and for good, and the repacked
    layer has no backward pass: layers below it would silently stop learning.
    """
    import bitsandbytes.nn.modules

    bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
