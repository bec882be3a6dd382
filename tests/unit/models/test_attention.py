"""Both implementations equal eager attention: outputs, gradients and generated tokens."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models import attention, chunked_attention
from palitune.models.adapters.config import Full, Lora
from palitune.models.config import AttentionImplementation, Local
from palitune.models.lm_head import loss_positions
from palitune.models.loading import load
from palitune.records import Example

MODULE = SimpleNamespace(num_key_value_groups=4, training=True, head_dim=16)
"""Attributes of an attention layer that eager attention reads: 8 heads, 2 key heads."""


def heads(tokens: int, dtype: torch.dtype = torch.float32, queries: int | None = None) -> list[Any]:
    torch.manual_seed(0)
    shapes = [(2, 8, queries or tokens, 16), (2, 2, tokens, 16), (2, 2, tokens, 16)]
    return [(3 * torch.randn(s)).to(dtype).requires_grad_() for s in shapes]


def prefix_mask(tokens: int, prefix: int) -> Tensor:
    """Return (2, 1, tokens, tokens): prefix and suffix; the second row has 5 tokens of padding."""
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    visible[:prefix, :prefix] = True
    masks = visible.repeat(2, 1, 1, 1)
    masks[1, :, :, -5:] = False
    return masks


def additive(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


def error(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    with torch.no_grad():
        return float((actual - expected).abs().max() / expected.abs().max())


def attend(
    attention_fn: Callable[..., Any], inputs: list[Any], mask: Tensor | None, **options: Any
) -> Any:
    """Return the output and the gradients of all inputs, for a fixed gradient of the output."""
    output = attention_fn(MODULE, *inputs, mask, scaling=0.25, **options)[0]
    torch.manual_seed(1)
    return [output, *torch.autograd.grad(output, inputs, torch.randn(output.shape).to(output))]


@pytest.mark.parametrize("as_mask", [torch.Tensor.bool, additive], ids=["bool", "additive"])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("tokens", [40, 600])
def test_chunked_equals_eager_with_and_without_softcap(
    tokens: int, softcap: float | None, as_mask: Callable[[Tensor], Tensor]
) -> None:
    mask = prefix_mask(tokens, tokens // 2)
    expected = attend(eager_attention_forward, heads(tokens), additive(mask), softcap=softcap)
    actual = attend(attention.chunked_attention, heads(tokens), as_mask(mask), softcap=softcap)
    for ours, eager in zip(actual, expected, strict=True):
        assert error(ours, eager) <= 5e-6


def test_chunked_attends_from_one_new_token_without_a_mask() -> None:
    inputs = heads(30, queries=1)
    expected = attend(eager_attention_forward, inputs, None, softcap=5.0)
    actual = attend(attention.chunked_attention, inputs, None, softcap=5.0)
    assert all(error(ours, eager) <= 5e-6 for ours, eager in zip(actual, expected, strict=True))


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("tokens", [1, 64, 200])
def test_the_operator_of_compiled_layers_equals_the_function_to_the_bit(
    tokens: int, softcap: float | None
) -> None:
    results = []
    for attend_with in (chunked_attention.attend_in_chunks, operator_output):
        inputs = heads(tokens)
        output = attend_with(*inputs, prefix_mask(tokens, tokens // 2), 0.25, softcap)
        torch.manual_seed(1)
        gradient = torch.randn(output.shape)
        results.append([output, *torch.autograd.grad(output, inputs, gradient)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def operator_output(*arguments: Any) -> Tensor:
    return chunked_attention._forward_operator(*arguments)[0]


def test_the_operator_fulfils_the_contract_of_torch() -> None:
    arguments = (*heads(70), prefix_mask(70, 30), 0.25, 5.0)
    torch.library.opcheck(chunked_attention._forward_operator, arguments)


@pytest.mark.parametrize(
    ("batch", "tokens", "queries"), [(4, 304, 862), (1, 1072, 978), (4, 1072, 256), (16, 304, 256)]
)
def test_chunks_on_a_gpu_hold_32_mib_of_scores_or_256_queries(
    batch: int, tokens: int, queries: int
) -> None:
    assert chunked_attention.queries_per_chunk("cuda", batch * tokens * 8 * 4) == queries
    assert chunked_attention.queries_per_chunk("cpu", batch * tokens * 8 * 4) == 64


def test_a_query_without_keys_gets_zeros_and_finite_gradients() -> None:
    mask = prefix_mask(40, 20)
    mask[0, :, 3] = False
    output, *gradients = attend(attention.chunked_attention, heads(40), mask, softcap=5.0)
    assert not output[0, 3].any()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_chunked_in_bfloat16_is_no_further_from_float32_than_eager() -> None:
    mask = prefix_mask(300, 150)
    exact = attend(eager_attention_forward, heads(300), additive(mask), softcap=5.0)
    half = heads(300, torch.bfloat16)
    eager = attend(eager_attention_forward, half, additive(mask).bfloat16(), softcap=5.0)
    chunked = attend(attention.chunked_attention, half, mask, softcap=5.0)
    for reference, eager_value, ours in zip(exact, eager, chunked, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - reference).abs().mean() <= 1.1 * (eager_value - reference).abs().mean()


def test_chunked_works_under_autocast_where_query_and_key_are_promoted() -> None:
    query, key, value = heads(40)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = attention.chunked_attention(
            MODULE, query, key, value.bfloat16(), prefix_mask(40, 20), softcap=5.0
        )
        output.float().sum().backward()
    assert query.grad.dtype == torch.float32
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_chunked_keeps_memory_linear_in_tokens_for_the_backward_pass(
    softcap: float | None,
) -> None:
    def saved_numbers(tokens: int) -> int:
        sizes: list[int] = []
        mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool)  # shared by all layers

        def count(tensor: Tensor) -> Tensor:
            sizes.append(0 if tensor.dtype == torch.bool else tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            attention.chunked_attention(MODULE, *heads(tokens), mask, softcap=softcap)
        return sum(sizes)

    assert saved_numbers(800) == 2 * saved_numbers(400)


@pytest.mark.parametrize(
    "kind",
    [attention.chunked_attention, attention.sdpa_attention, attention.flex_attention],
)
def test_attention_over_several_tokens_without_a_mask_is_refused(kind: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="without a mask"):
        kind(MODULE, *heads(40), None)


def test_attention_dropout_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ValueError, match="dropout"):
        attention.chunked_attention(MODULE, *heads(40), prefix_mask(40, 20), dropout=0.1)


# Whole networks ----------------------------------------------------------------------------------


@pytest.fixture(params=["paligemma", "paligemma2", "paligemma2, window of 32"])
def folder(request: pytest.FixtureRequest, tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a tiny model; PaliGemma 2 has a soft-cap low enough to matter for random weights."""
    family, _, window = request.param.partition(", ")
    shutil.copytree(tiny(family), tmp_path / family)
    file = tmp_path / family / "config.json"
    config = json.loads(file.read_text())
    if family == "paligemma2":
        config["text_config"]["attn_logit_softcapping"] = 1.5
    if window:
        config["text_config"]["sliding_window"] = 32
    file.write_text(json.dumps(config))
    return tmp_path / family


def losses_and_gradients(model: Local, examples: list[Example]) -> list[Tensor]:
    network = load(model)
    collator = Collator(AutoProcessor.from_pretrained(model.path))
    batch = collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )
    positions = loss_positions(batch.pop("labels"))
    Full().apply_to(network)
    logits = network(**batch, logits_to_keep=positions).logits
    logits.square().mean().backward()
    return [logits.detach(), *(p.grad for p in network.model.language_model.parameters())]


@pytest.mark.parametrize("softcapped", [True, False])
def test_every_attention_gives_the_logits_and_gradients_of_eager(
    folder: Path, softcapped: bool, examples: list[Example]
) -> None:
    expected = losses_and_gradients(
        Local(
            path=str(folder),
            attention=AttentionImplementation.eager,
            attention_logit_softcapping=softcapped,
        ),
        examples,
    )
    kinds = [
        AttentionImplementation.auto,
        AttentionImplementation.chunked,
        AttentionImplementation.flex,
    ]
    if "paligemma2" not in folder.name or not softcapped:
        kinds.append(AttentionImplementation.sdpa)
    for kind in kinds:
        actual = losses_and_gradients(
            Local(path=str(folder), attention=kind, attention_logit_softcapping=softcapped),
            examples,
        )
        for ours, eager in zip(actual, expected, strict=True):
            assert error(ours, eager) <= 1e-5


def test_the_low_softcap_of_these_tests_has_an_effect(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    capped, free = (
        losses_and_gradients(
            Local(path=str(tiny("paligemma2")), attention_logit_softcapping=cap), examples
        )
        for cap in (True, False)
    )
    assert not torch.equal(capped[0], free[0])


def test_generation_from_a_left_padded_batch_equals_eager(
    folder: Path, examples: list[Example]
) -> None:
    collator = Collator(AutoProcessor.from_pretrained(folder))
    batch = collator.collate_prompts(examples)
    assert not batch["attention_mask"].all()
    generated = [
        load(Local(path=str(folder), attention=kind)).generate(
            **batch, max_new_tokens=12, do_sample=False
        )
        for kind in (AttentionImplementation.eager, AttentionImplementation.auto)
    ]
    assert torch.equal(*generated)


def test_the_stock_forward_pass_without_token_types_is_refused(
    tiny: Callable[[str], Path],
) -> None:
    attention.register()
    stock = PaliGemmaForConditionalGeneration.from_pretrained(
        tiny("paligemma"), attn_implementation={"text_config": attention.SDPA_ATTENTION}
    )
    with pytest.raises(ValueError, match="without a mask"):
        stock(input_ids=torch.tensor([[2, 10, 11, 12]]))


def test_gradient_checkpointing_changes_no_gradient(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    collator = Collator(AutoProcessor.from_pretrained(model.path))
    batch = collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )
    positions = loss_positions(batch.pop("labels"))
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = Lora(rank=4).apply_to(load(model)).train()
        if checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        network(**batch, logits_to_keep=positions).logits.square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_names_contain_no_word_that_transformers_interprets() -> None:
    for name in (
        attention.SDPA_ATTENTION,
        attention.CHUNKED_ATTENTION,
        attention.FLEX_ATTENTION,
    ):
        assert not any(word in name for word in ("sdpa", "flash_attention", "flex_attention"))
