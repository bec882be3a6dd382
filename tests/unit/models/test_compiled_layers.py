"""Compiled layers: few graphs for rows of any length, no graph breaks, the same losses."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor
from torch._dynamo.utils import counters

from palitune.models import decoder_layers, flex_attention
from palitune.models.adapters.config import Lora
from palitune.models.config import AttentionImplementation, Local
from palitune.models.loading import load

LENGTHS = (40, 41, 48, 55, 64, 70, 83, 90, 101, 120)


@pytest.fixture(autouse=True)
def clean_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def text_batch(length: int) -> dict[str, Tensor]:
    """Return two rows without images: prefix, two suffixes, and padding in the first."""
    torch.manual_seed(length)
    ids = torch.randint(3, 200, (2, length))
    types = torch.zeros_like(ids)
    types[:, length // 2 :], types[:, 3 * length // 4 :] = 1, 2
    real = torch.ones_like(ids)
    types[0, -3:], real[0, -3:] = 0, 0
    labels = ids.masked_fill(types == 0, -100)
    return {
        "input_ids": ids, "token_type_ids": types, "attention_mask": real, "labels": labels
    }  # fmt: skip


def losses_and_gradients(network: Any, length: int) -> list[Tensor]:
    network.zero_grad()
    losses = network(**text_batch(length)).loss
    losses.sum().backward()
    return [losses.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_ten_lengths_take_at_most_three_graphs_per_layer_type_and_no_break(
    family: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny(family)), attention=AttentionImplementation.chunked)
    plain = Lora(rank=4).apply_to(load(model)).train()
    compiled = copy.deepcopy(plain)
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    body = compiled.get_base_model().model.language_model
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda layer, **options: setattr(
            layer, "_compiled_call_impl", torch.compile(layer._call_impl, backend=count, **options)
        ),
    )
    decoder_layers.compile_layers(body)
    for length in LENGTHS:
        expected, actual = (losses_and_gradients(net, length) for net in (plain, compiled))
        assert torch.equal(actual[0], expected[0])
        # Compiled, autograd derives the norms; otherwise their gradient is one formula.
        torch.testing.assert_close(actual[1:], expected[1:], rtol=1e-4, atol=1e-6)
    kinds = set(decoder_layers.layer_types(body)[:-1])
    assert 1 <= len(graphs) <= 3 * len(kinds)
    assert not counters["graph_break"]


@torch._dynamo.config.patch(specialize_float=True)
def test_flex_attention_of_any_length_takes_two_graphs() -> None:
    """One for rows of one block of 128 tokens, and one for longer rows."""
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    attend = torch.compile(
        flex_attention.attend_in_kernel, backend=count, dynamic=True, fullgraph=True
    )
    for length in (20, 37, 100, 130, 200, 300):
        types = torch.zeros(2, length, dtype=torch.long)
        mask = flex_attention.prefix_lm_block_mask(types, torch.ones_like(types))
        inputs = [torch.randn(2, heads, length, 16, requires_grad=True) for heads in (4, 2, 2)]
        output, expected = (
            function(*inputs, mask, 0.25, 5.0)
            for function in (attend, flex_attention.attend_in_kernel)
        )
        assert torch.equal(output, expected)
        output.sum().backward()
    assert len(graphs) == 2


def test_block_sizes_of_a_card_are_constants_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(shared_memory_per_block_optin=101_376)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)

    def rows_per_block(query: Tensor) -> Tensor:
        memory = flex_attention._shared_memory(query.device)
        return query * flex_attention.kernel_options(256, torch.bfloat16, memory)["fwd_BLOCK_M"]

    compiled = torch.compile(rows_per_block, backend="eager", fullgraph=True)
    assert compiled(torch.ones(1)) == 32


def test_a_prompt_runs_uncompiled(tiny: Callable[[str], Path]) -> None:
    network = load(Local(path=str(tiny("paligemma2"))))
    body = network.model.language_model
    for layer in body.layers:
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=_refuse)
    ids = text_batch(40)["input_ids"]
    mask = torch.ones(2, 1, 40, 40, dtype=torch.bool)
    cache = SimpleNamespace(update=lambda key, value, layer_idx: (key, value))
    hidden = decoder_layers.run_decoder(
        body,
        network.get_input_embeddings()(ids),
        dict.fromkeys(decoder_layers.LAYER_TYPES, mask),
        torch.arange(1, 41).expand(2, -1),
        decoder_layers.KeptPositions.last(2, 40, ids.device),
        cache,
    )
    assert hidden.shape == (2, body.config.hidden_size)


def _refuse(*_: Any) -> Any:
    raise AssertionError("a layer was compiled")
