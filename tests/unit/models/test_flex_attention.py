"""flex_attention: its masks, block sizes, and the choice of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.errors import ModelError
from palitune.models import attention, flex_attention, loading
from palitune.models.config import AttentionImplementation, Local
from palitune.models.hub_files import read_config
from palitune.models.loading import load

CONSUMER, A100 = 101_376, 166_912
FLEX = AttentionImplementation.flex


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_blocks_of_wide_heads_fit_into_a_consumer_card(dtype: torch.dtype) -> None:
    options = flex_attention.kernel_options(256, dtype, CONSUMER)
    row = 256 * dtype.itemsize
    # A block of queries, and per stage a block of keys and one of values.
    forward = options["fwd_BLOCK_M"] + 2 * (options["fwd_num_stages"] - 1) * options["fwd_BLOCK_N"]
    assert forward * row <= CONSUMER
    if dtype != torch.float32:
        # A block of keys and one of values, and per stage one of queries and one of gradients.
        stages = options["bwd_num_stages"]
        backward = 2 * options["bwd_BLOCK_N1"] + 2 * stages * options["bwd_BLOCK_M1"]
        assert backward * row <= CONSUMER
    sizes = [size for name, size in options.items() if "BLOCK" in name]
    assert all(
        flex_attention_block % size == 0 for flex_attention_block in (128,) for size in sizes
    )


@pytest.mark.parametrize(("width", "memory"), [(256, A100), (128, CONSUMER)])
def test_torch_chooses_blocks_of_other_cards_and_narrow_heads(width: int, memory: int) -> None:
    assert flex_attention.kernel_options(width, torch.bfloat16, memory) == {}


def choose(tiny: Callable[[str], Path], family: str, device: str = "cuda", **settings: Any) -> str:
    model = Local(path=str(tiny(family)))
    for_training = settings.pop("for_training", True)
    for name, value in settings.items():
        setattr(model, name, value)
    name = loading.resolve_attn_implementation(
        model, read_config(tiny(family)), device, for_training=for_training
    )
    return attention.format_name(name)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_auto_is_flex_in_a_training_on_a_gpu_only(
    family: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "chunked" if family == "paligemma2" else "sdpa"
    assert choose(tiny, family) == "flex"
    assert choose(tiny, family, "cpu") == other
    assert choose(tiny, family, for_training=False) == other
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for capability, choice in {(7, 5): other, (8, 0): "flex", (9, 0): "flex"}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda value=capability: value)
        assert choose(tiny, family) == choice


def test_sdpa_is_refused_for_soft_capped_scores(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"cannot soft-cap .* Set model\.attention=chunked"):
        choose(tiny, "paligemma2", attention=AttentionImplementation.sdpa)


def test_flex_on_a_torch_without_it_is_one_sentence(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flex_attention, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"requires flex_attention, which torch .* lacks\. Set"):
        choose(tiny, "paligemma2", attention=FLEX)
    assert choose(tiny, "paligemma2") == "chunked"


@pytest.mark.parametrize("requested", [True, False])
def test_a_card_that_cannot_compile_flex_gets_the_fallback_or_one_sentence(
    requested: bool, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    if requested:
        model.attention = FLEX

    def fail(*_: Any) -> Any:
        raise RuntimeError("out of resource: shared memory\nRequired: 114688")

    monkeypatch.setattr(flex_attention, "attend_in_kernel", fail)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "card")
    config = read_config(tiny("paligemma2"))
    cpu = torch.device("cpu")
    error = flex_attention.compilation_error((4, 2, 16), 50.0, cpu, torch.float32)
    assert error == "RuntimeError: out of resource: shared memory"
    monkeypatch.setattr(flex_attention, "compilation_error", lambda *_: error)

    def resolve() -> str:
        name, device = attention.FLEX_ATTENTION, torch.device("cuda", 0)
        return loading.compiled_attention_or_fallback(model, config, name, device, torch.bfloat16)

    if requested:
        with pytest.raises(
            ModelError, match=r"cannot be compiled for card \(.*Set model\.attention"
        ):
            resolve()
    else:
        assert resolve() == attention.CHUNKED_ATTENTION


def test_kernels_are_compiled_forward_and_backward_with_the_shape_of_the_heads() -> None:
    assert (
        flex_attention.compilation_error((4, 2, 16), 50.0, torch.device("cpu"), torch.float32)
        is None
    )


def test_the_attention_of_a_network_is_described(tiny: Callable[[str], Path]) -> None:
    network = load(Local(path=str(tiny("paligemma2")), attention=FLEX))
    assert loading.describe_network(network) == {
        "device": "cpu", "dtype": "float32", "attention": "flex"
    }  # fmt: skip
