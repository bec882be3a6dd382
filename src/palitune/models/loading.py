"""Loading of base models, processors and adapters, with checks."""

import logging
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PaliGemmaProcessor
from transformers.utils import logging as transformers_logging

from palitune.codec.tokens import LOC_TOKENS, NUM_CODES
from palitune.errors import ModelError
from palitune.models import attention, flex_attention
from palitune.models.adapters.checkpoint import AdapterMetadata, load_adapter
from palitune.models.adapters.combination import AdapterCombination
from palitune.models.adapters.config import AdapterConfig, Full, Qlora
from palitune.models.adapters.weighted_adapters import combine_adapters
from palitune.models.config import (
    FINAL_SOFTCAP_ERROR,
    FLEX_ERROR,
    FP16_ERROR,
    SDPA_SOFTCAP_ERROR,
    AttentionImplementation,
    Dtype,
    ModelConfig,
    Network,
)
from palitune.models.devices import resolve_device, select_device, supports_bf16
from palitune.models.hub_files import family, fetch_model, fingerprint, read_config
from palitune.models.paligemma import PaliGemmaPrefixLM, PaliGemmaPrefixModel
from palitune.models.precision import warn_of_emulated_precision
from palitune.models.quantization import bitsandbytes_config

_log = logging.getLogger(__name__)

TORCH_DTYPES = {Dtype.bf16: torch.bfloat16, Dtype.fp32: torch.float32, Dtype.fp16: torch.float16}

_log = logging.getLogger(__name__)

SEG_TOKENS = [f"<seg{number:03d}>" for number in range(NUM_CODES)]

# They warn about optional kernels that are not installed and, with int8, about every layer.
for _library in ("bitsandbytes", "torchao", "torch.utils._pytree"):
    logging.getLogger(_library).setLevel(logging.ERROR)


def load_processor(model: ModelConfig) -> Any:
    """Load tokenizer and image processor, and check that they match the model."""
    folder = fetch_model(model, weights=False)
    config = read_config(folder)
    try:
        processor = PaliGemmaProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model.name_or_path()}: the processor cannot be read. Copy tokenizer.json, "
            "tokenizer_config.json and preprocessor_config.json of a released PaliGemma there."
        ) from error
    check_tokenizer(processor, config)
    return processor


def load(
    model: ModelConfig, adapter: AdapterConfig | None = None, *, for_training: bool = False
) -> Network:
    """Load the base model without an adapter, quantized if `adapter` is qlora."""
    bits = adapter.quantization_bits() if adapter else None
    return load_base(model, adapter, bits, for_training=for_training)


def load_for_training(model: ModelConfig, adapter: AdapterConfig) -> Network:
    """Load the base model with a trainable adapter: a new one, or the one saved in its `path`."""
    if adapter.path is None:
        return adapter.apply_to(load(model, adapter, for_training=True))
    metadata = AdapterMetadata.read(adapter.path)
    base = load(with_saved_softcaps(model, metadata), adapter, for_training=True)
    network = load_adapter(
        base, adapter.path, trainable=True, allow_base_mismatch=adapter.allow_base_mismatch
    )
    adapter.check_matches_saved(network)
    return network


def load_for_inference(model: ModelConfig, adapter: AdapterConfig) -> Network:
    """Load the base model with the adapter in `path`; without a path, the base model alone.

    Kind and quantization are those of the saved adapter, whatever the type of `adapter`.
    """
    if adapter.path is None:
        return load(model, adapter)
    metadata = AdapterMetadata.read(adapter.path)
    kind = Full() if metadata.adapter == Full.name else adapter
    base = load_base(with_saved_softcaps(model, metadata), kind, metadata.bits)
    return load_adapter(base, adapter.path, allow_base_mismatch=adapter.allow_base_mismatch)


def load_combined(
    model: ModelConfig, combination: AdapterCombination, *, quantized: bool
) -> Network:
    """Load the base model with several adapters combined into one.

    `quantized`: load the base as it was when the first adapter was trained; otherwise unquantized.
    """
    if getattr(read_config(fetch_model(model, weights=False)), "quantization_config", None):
        raise ModelError(
            f"{model.name_or_path()} has quantized weights, into which no adapter is merged. Set "
            "model to the base without quantization."
        )
    metadata = AdapterMetadata.read(combination.paths[0])
    kind = Full() if metadata.adapter == Full.name else None
    base = load_base(
        with_saved_softcaps(model, metadata), kind, metadata.bits if quantized else None
    )
    adapted = load_adapter(
        base, combination.paths[0], allow_base_mismatch=combination.allow_base_mismatch
    )
    return combine_adapters(adapted, combination)


def with_saved_softcaps(model: ModelConfig, metadata: AdapterMetadata) -> ModelConfig:
    """Return the model settings with the soft-caps that an adapter was trained with."""
    if metadata.is_plain_peft:
        return model
    return replace(
        model,
        final_logit_softcapping=metadata.final_logit_softcapping,
        attention_logit_softcapping=metadata.attention_logit_softcapping,
    )


def load_base(
    model: ModelConfig,
    adapter: AdapterConfig | None,
    bits: int | None,
    *,
    for_training: bool = False,
) -> Network:
    """Load the base model without an adapter, quantized to `bits` per weight."""
    folder = fetch_model(model, weights=True)
    config = read_config(folder)
    configure_softcaps(model, config)
    device = resolve_device(model)
    select_device(device)
    dtype = resolve_dtype(model, family(config), adapter)
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError(FP16_ERROR)
    warn_of_emulated_precision(device, dtype)
    _log.info("loading %s (%s on %s)", model.name_or_path(), str(dtype)[6:], device)
    attention.register()
    implementation = resolve_attn_implementation(
        model, config, device.type, for_training=for_training
    )
    implementation = compiled_attention_or_fallback(model, config, implementation, device, dtype)
    transformers_logging.disable_progress_bar()
    try:
        network, loading_info = PaliGemmaPrefixLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation={
                "text_config": implementation,
                "vision_config": "sdpa",
            },
            device_map={"": device},
            quantization_config=_quantization_config(bits, adapter, dtype, device),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        network.base_fingerprint = fingerprint(folder)
        network.autocast_dtype = resolve_autocast_dtype(model, adapter)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{model.name_or_path()}: the weights cannot be read ({error}). Provide a complete "
            "checkpoint with *.safetensors files."
        ) from error
    invalid = [*loading_info["missing_keys"], *loading_info["mismatched_keys"]]
    if invalid:
        raise ModelError(
            f"{model.name_or_path()}: {len(invalid)} weights are missing or misshapen, first "
            f"{min(map(str, invalid))}. Provide a complete PaliGemma checkpoint."
        )
    # Some checkpoints request a static cache, whose masks PaliGemma does not accept.
    network.generation_config.cache_implementation = None
    return network


def resolve_dtype(
    model: ModelConfig, model_family: str, adapter: AdapterConfig | None = None
) -> torch.dtype:
    """Return the dtype of the base model's weights.

    Raises ModelError if the GPU does not compute in the requested dtype.
    """
    device = resolve_device(model)
    if model.dtype is not Dtype.auto:
        _check_dtype(model.dtype, "model.dtype", device)
        return TORCH_DTYPES[model.dtype]
    if device.type != "cuda" or isinstance(adapter, Full):
        return torch.float32
    if supports_bf16(device):
        return torch.bfloat16
    if model_family == "paligemma":
        return torch.float16
    _log.info(
        "this GPU does not compute in bf16, and Gemma 2 overflows in fp16: the model computes in "
        "fp32, which takes more time and memory; model=paligemma computes in fp16"
    )
    return torch.float32


def resolve_autocast_dtype(model: ModelConfig, adapter: AdapterConfig | None) -> torch.dtype | None:
    """Return the dtype of matrix products if it differs from that of the weights.

    Full fine-tuning keeps float32 weights, for small updates, but computes in bf16 on a GPU.
    """
    device = resolve_device(model)
    if not isinstance(adapter, Full) or model.dtype is not Dtype.auto or device.type != "cuda":
        return None
    return torch.bfloat16 if supports_bf16(device) else None


def _check_dtype(dtype: Dtype, key: str, device: torch.device) -> None:
    if dtype is Dtype.bf16 and not supports_bf16(device):
        raise ModelError(
            f"{key}=bf16: {torch.cuda.get_device_name(device)} does not compute in bf16. Set "
            f"{key}=auto."
        )


def resolve_attn_implementation(
    model: ModelConfig, config: Any, device_type: str, *, for_training: bool
) -> str:
    """Return the attention implementation of the language model.

    Args:
        model: Model settings.
        config: The model's configuration, adjusted by `configure_softcaps`.
        device_type: cpu | cuda.
        for_training: Whether the model is trained; without, auto does not wait for a compilation.
    """
    choice = model.attention
    capped = family(config) == "paligemma2" and config.text_config.attn_logit_softcapping
    if choice is AttentionImplementation.eager:
        return "eager"
    if choice is AttentionImplementation.sdpa and capped:
        raise ModelError(SDPA_SOFTCAP_ERROR)
    if choice is AttentionImplementation.flex and not flex_attention.is_available():
        reason = f"requires flex_attention, which torch {torch.__version__} lacks"
        raise ModelError(FLEX_ERROR.format(reason=reason))
    if choice is AttentionImplementation.auto:
        if for_training and device_type == "cuda" and flex_attention.is_fast():
            choice = AttentionImplementation.flex
        else:
            choice = AttentionImplementation.chunked if capped else AttentionImplementation.sdpa
    return attention.IMPLEMENTATION_NAMES[choice.value]


def describe_network(network: Any) -> dict[str, str]:
    """Return the device, dtype and attention implementation that a network uses."""
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    weight = body.get_input_embeddings().weight
    return {
        "device": str(weight.device),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "attention": attention.format_name(body.language_model.config._attn_implementation),
    }


def compiled_attention_or_fallback(
    model: ModelConfig, config: Any, name: str, device: torch.device, dtype: torch.dtype
) -> str:
    """Return `name`, or if it is flex_attention and cannot be compiled here, a fallback for auto.

    Raises ModelError if flex was requested.
    """
    if name != attention.FLEX_ATTENTION or device.type == "cpu":
        return name
    text = config.text_config
    error = flex_attention.compilation_error(
        (text.num_attention_heads, text.num_key_value_heads, text.head_dim),
        getattr(text, "attn_logit_softcapping", None),
        device,
        dtype,
    )
    if error is None:
        return name
    reason = f"cannot be compiled for {torch.cuda.get_device_name(device)} ({error})"
    if model.attention is AttentionImplementation.flex:
        raise ModelError(FLEX_ERROR.format(reason=reason))
    fallback = resolve_attn_implementation(model, config, "cpu", for_training=True)
    _log.warning("flex_attention %s; this run uses %s", reason, attention.format_name(fallback))
    return fallback


def check_tokenizer(processor: Any, config: Any) -> None:
    """Raise ModelError if <loc> or <seg> are not single tokens, or the processor is another's."""
    tokenizer = processor.tokenizer
    for tokens in (LOC_TOKENS, SEG_TOKENS):
        ids = tokenizer.convert_tokens_to_ids(tokens)
        encoded = tokenizer("".join(tokens), add_special_tokens=False)["input_ids"]
        if encoded != ids or ids != list(range(ids[0], ids[0] + len(ids))):
            raise ModelError(
                f"{tokens[0]} to {tokens[-1]} must be single tokens with consecutive ids in the "
                "tokenizer. Use the processor of a released PaliGemma."
            )
    vocab_size = config.text_config.vocab_size
    if processor.image_token_id != config.image_token_id or len(tokenizer) > vocab_size:
        raise ModelError(
            f"the processor (<image> is {processor.image_token_id}, {len(tokenizer)} tokens) does "
            f"not match the model (<image> is {config.image_token_id}, {vocab_size} tokens). Use "
            "both from one checkpoint."
        )


def configure_softcaps(model: ModelConfig, config: Any) -> None:
    """Remove the soft-caps that are switched off from a model's configuration, in place."""
    text = config.text_config
    if family(config) == "paligemma":
        if model.final_logit_softcapping:
            raise ModelError(FINAL_SOFTCAP_ERROR)
        return
    if not model.final_logit_softcapping:
        text.final_logit_softcapping = None
    if not model.attention_logit_softcapping:
        text.attn_logit_softcapping = None


def _quantization_config(
    bits: int | None, adapter: AdapterConfig | None, dtype: torch.dtype, device: torch.device
) -> Any:
    if bits is None:
        return None
    _disable_inference_repacking()
    requested = adapter.compute_dtype if isinstance(adapter, Qlora) else Dtype.auto
    _check_dtype(requested, "adapter.compute_dtype", device)
    return bitsandbytes_config(bits, TORCH_DTYPES.get(requested, dtype))


def _disable_inference_repacking() -> None:
    """Keep bitsandbytes from repacking 4-bit weights for inference on CPUs with AVX512-BF16.

    It repacks in the first forward pass without gradients, permanently, and a repacked layer has no
    backward pass: layers below it would silently stop learning.
    """
    import bitsandbytes.nn.modules

    bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
