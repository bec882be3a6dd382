"""Read a base model and its processor, checked, or say in one sentence why it cannot be done."""

import os
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PaliGemmaProcessor

from palitune.models import attention
from palitune.models.adapter_files import Record, load_adapter
from palitune.models.adapters import Adapter, Full, Qlora
from palitune.models.base_files import family, fetch, fingerprint, read_config
from palitune.models.checkpoints import Attention, Device, Dtype, Model, ModelError, Network
from palitune.models.combining import Combination, combine
from palitune.models.prefix_lm import PrefixLM
from palitune.models.quantizing import bitsandbytes_config

DTYPES = {Dtype.bf16: torch.bfloat16, Dtype.fp32: torch.float32, Dtype.fp16: torch.float16}

LOC_TOKENS = [f"<loc{number:04d}>" for number in range(1024)]
SEG_TOKENS = [f"<seg{number:03d}>" for number in range(128)]


def load_processor(model: Model) -> Any:
    """Read tokenizer and image processor, and check that the model knows their tokens."""
    folder = fetch(model, weights=False)
    config = read_config(folder)
    try:
        processor = PaliGemmaProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as fault:
        raise ModelError(
            f"{model.source()}: there is no readable processor; copy tokenizer.json, "
            "tokenizer_config.json and preprocessor_config.json of a released PaliGemma there"
        ) from fault
    check_tokens(processor, config)
    return processor


def load(model: Model, adapter: Adapter | None = None) -> Network:
    """Read the base model, quantized where `adapter` is qlora; the adapter is not put on."""
    return load_base(model, adapter, adapter.base_bits() if adapter else None)


def load_trainable(model: Model, adapter: Adapter) -> Network:
    """Read the base model and put the adapter on, to be trained: new, or saved in its `path`."""
    if adapter.path is None:
        return adapter.attach(load(model, adapter))
    record = Record.read(adapter.path)
    base = load(as_recorded(model, record), adapter)
    network = load_adapter(base, adapter.path, trainable=True, any_base=adapter.any_base)
    adapter.check_continues(network)
    return network


def load_trained(model: Model, adapter: Adapter) -> Network:
    """Read the base model with the adapter in `path`, as it was trained; alone without a path.

    What was trained counts, quantization included, whatever kind `adapter` is.
    """
    if adapter.path is None:
        return load(model, adapter)
    record = Record.read(adapter.path)
    kind = Full() if record.adapter == Full.name else adapter
    base = load_base(as_recorded(model, record), kind, record.bits)
    return load_adapter(base, adapter.path, any_base=adapter.any_base)


def load_combined(model: Model, combination: Combination, *, quantized: bool) -> Network:
    """Read the base model and put adapters on as one.

    `quantized`: the base as the first adapter had it in training; else in float32.
    """
    record = Record.read(combination.paths[0])
    if not quantized:
        model = replace(model, dtype=Dtype.fp32)
    kind = Full() if record.adapter == Full.name else None
    base = load_base(as_recorded(model, record), kind, record.bits if quantized else None)
    adapted = load_adapter(base, combination.paths[0], any_base=combination.any_base)
    return combine(adapted, combination)


def as_recorded(model: Model, record: Record) -> Model:
    """Apply the soft-caps that an adapter was trained with."""
    return replace(
        model,
        final_logit_softcapping=record.final_logit_softcapping,
        attention_logit_softcapping=record.attention_logit_softcapping,
    )


def load_base(model: Model, adapter: Adapter | None, bits: int | None) -> Network:
    """Read the base model, quantized to `bits` per weight; the adapter is not put on."""
    folder = fetch(model, weights=True)
    config = read_config(folder)
    apply_softcaps(model, config)
    device, dtype = resolve_device(model), resolve_dtype(model, adapter)
    if dtype == torch.float16 and family(config) == "paligemma2":
        raise ModelError("model.dtype: Gemma 2 overflows in fp16; use bf16 or fp32")
    attention.register()
    try:
        network, found = PrefixLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation={
                "text_config": attention_name(model, config),
                "vision_config": "sdpa",
            },
            device_map={"": device},
            quantization_config=_quantization(bits, adapter, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        network.base_fingerprint = fingerprint(folder)
    except (OSError, SafetensorError) as fault:
        raise ModelError(
            f"{model.source()}: the weights cannot be read ({fault}); give a complete checkpoint "
            "with *.safetensors files"
        ) from fault
    if odd := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise ModelError(
            f"{model.source()}: {len(odd)} weights are missing or misshapen, first {odd[0]}; give "
            "a complete PaliGemma checkpoint"
        )
    if bits == 4:
        from palitune.models.expanding import keep_small_expanded

        keep_small_expanded(network)
    # A checkpoint may ask for a static cache, whose masks PaliGemma cannot take.
    network.generation_config.cache_implementation = None
    return network


def resolve_device(model: Model) -> torch.device:
    """Give the device of this process; under a launcher of several, the one of its local rank."""
    available = torch.cuda.is_available()
    if model.device is Device.cuda and not available:
        raise ModelError("model.device=cuda: no GPU is visible to torch; use model.device=cpu")
    if model.device is Device.cpu or not available:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def resolve_dtype(model: Model, adapter: Adapter | None = None) -> torch.dtype:
    """Give the dtype of the base model's weights."""
    if model.dtype is not Dtype.auto:
        return DTYPES[model.dtype]
    on_gpu = resolve_device(model).type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if on_gpu and not isinstance(adapter, Full) else torch.float32


def attention_name(model: Model, config: Any) -> str:
    """Give the name of the language model's attention, soft-caps being settled in `config`."""
    capped = family(config) == "paligemma2" and config.text_config.attn_logit_softcapping
    if model.attention is Attention.eager:
        return "eager"
    if model.attention is Attention.chunked or (model.attention is Attention.auto and capped):
        return attention.CHUNKED
    if capped:
        raise ModelError(
            "model.attention: sdpa cannot soft-cap attention scores; use chunked, or set "
            "model.attention_logit_softcapping=false"
        )
    return attention.TORCH_KERNEL


def check_tokens(processor: Any, config: Any) -> None:
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


def apply_softcaps(model: Model, config: Any) -> None:
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


def _quantization(bits: int | None, adapter: Adapter | None, dtype: torch.dtype) -> Any:
    if bits is None:
        return None
    _keep_gradients_after_evaluation()
    asked = adapter.compute_dtype if isinstance(adapter, Qlora) else Dtype.auto
    return bitsandbytes_config(bits, DTYPES.get(asked, dtype))


def _keep_gradients_after_evaluation() -> None:
    """Keep bitsandbytes from repacking 4-bit weights for inference on CPUs with AVX512-BF16.

    It does so in the first forward pass without gradients, in place and for good, and the repacked
    layer has no backward pass: layers below it would silently stop learning.
    """
    import bitsandbytes.nn.modules

    bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
