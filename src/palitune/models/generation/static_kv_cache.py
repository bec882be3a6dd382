"""Generation with buffers of fixed shapes, so that a GPU can replay a step as a CUDA graph.

A step of a 3B model launches some 2,500 kernels, which takes the host ten times as long as the GPU.
A graph launches them at once. It is recorded for buffers of one shape and address, so finished
sequences stay in the buffers until half of them are finished, and all slots of the cache are
attended to, with a mask. The answers are those of `KVCacheDecoder`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palitune.models.generation.kv_cache import BLOCK_SIZE, KVCacheDecoder
from palitune.models.paligemma import PaliGemmaPrefixLM

_log = logging.getLogger(__name__)

MAX_GRAPH_ERROR = 0.05
"""Largest difference between logits of a graph and of the same step without it, which may select
other matrix kernels."""


def decoder_class(device: torch.device, *, cuda_graphs: bool) -> type[KVCacheDecoder]:
    """Return the decoder of a device: with fixed shapes if its steps are recorded as graphs."""
    return StaticKVCacheDecoder if cuda_graphs and device.type == "cuda" else KVCacheDecoder


class StaticKVCacheDecoder(KVCacheDecoder):
    """A decoder whose step always has the same shapes, until half of the sequences are finished."""

    def __init__(self, network: PaliGemmaPrefixLM, batch: Mapping[str, Tensor]) -> None:
        super().__init__(network, batch)
        self.buffer_rows: list[int] = list(range(len(self.prompt_mask)))
        """Row in the buffers of each unfinished sequence."""
        self.count = torch.zeros((), dtype=torch.int64, device=self.device)
        """Number of generated tokens."""
        self.tokens = self.count
        """Newest token of each row, (rows,) int64."""
        self.graph: StepGraph | None = None
        self.use_graphs = self.device.type == "cuda"

    def step(self, rows: Sequence[int], tokens: Sequence[int], beams_per_prompt: int) -> Tensor:
        parents = [self.buffer_rows[row] for row in rows]
        if self.num_generated == 0 or 2 * len(rows) <= len(self.tokens):
            self._resize_buffers(parents, beams_per_prompt)
        else:
            self._reorder_in_place(parents, beams_per_prompt)
        if self.generated_kv[0].shape[3] == self.num_generated:
            self._grow()
        self.num_generated += 1
        self.count.fill_(self.num_generated)
        padded = [0] * len(self.tokens)
        for row, token in zip(self.buffer_rows, tokens, strict=True):
            padded[row] = token
        inputs = torch.tensor([padded, self.buffer_rows + [0] * (len(padded) - len(rows))])
        on_device = inputs.to(self.device, non_blocking=True)
        self.tokens.copy_(on_device[0])
        logits = self._run()
        is_full = len(self.buffer_rows) == len(padded)
        return logits if is_full else logits[on_device[1, : len(rows)]]

    def _resize_buffers(self, parents: list[int], beams_per_prompt: int) -> None:
        index = torch.tensor(parents).to(self.device, non_blocking=True)
        self._reorder_cache(parents, index, beams_per_prompt)
        self.buffer_rows = list(range(len(parents)))
        self.tokens = torch.zeros_like(index)
        self.graph = None

    def _reorder_in_place(self, parents: list[int], beams: int) -> None:
        """Continue `parents` in the rows of their prompts; the other rows are finished."""
        prompts = [parent // beams for parent in parents[::beams]]
        self.buffer_rows = [prompt * beams + beam for prompt in prompts for beam in range(beams)]
        sources = list(range(len(self.tokens)))
        for row, parent in zip(self.buffer_rows, parents, strict=True):
            sources[row] = parent
        if sources != list(range(len(self.tokens))):
            index = torch.tensor(sources).to(self.device, non_blocking=True)
            for kv in self.generated_kv:
                kv.copy_(kv[:, index])

    def _grow(self) -> None:
        for number, kv in enumerate(self.generated_kv):
            block = self._allocate_block(self.prompt_kv[number][0], kv.shape[1])
            self.generated_kv[number] = torch.cat([kv, block], dim=3)
        self.graph = None

    def _run(self) -> Tensor:
        if self.graph is not None:
            return self.graph.replay()
        logits = self._step()
        if self.use_graphs:
            self.graph = record(self._step, logits)
            self.use_graphs = self.graph is not None
        return logits

    def _step(self) -> Tensor:
        """Run the newest tokens; repeating it changes nothing."""
        return self._next_logits(self.tokens, self.count)

    def _allocate_block(self, key: Tensor, num_sequences: int) -> Tensor:
        # Zeros, because slots that are not used yet are multiplied by a weight of zero.
        return key.new_zeros(2, num_sequences, key.shape[1], BLOCK_SIZE, key.shape[3])

    def _num_slots(self) -> int:
        return self.generated_kv[0].shape[3]

    def _store(self, layer_idx: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        kv = self.generated_kv[layer_idx]
        newest = torch.stack([key, value])[:, :, :, None].to(kv.dtype)
        kv.index_copy_(3, (self.count - 1)[None], newest)
        return kv[0], kv[1]


class StepGraph:
    """A step recorded as a CUDA graph."""

    def __init__(self, step: Callable[[], Tensor]) -> None:
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # A recording must not be the first run on its stream.
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = step()

    def replay(self) -> Tensor:
        """Run the step on its buffers; the next call overwrites the result."""
        self.graph.replay()
        return self.logits


def record(step: Callable[[], Tensor], expected: Tensor) -> StepGraph | None:
    """Record a step; None if that fails or the graph's logits are not the expected ones."""
    try:
        graph = StepGraph(step)
    except RuntimeError as error:
        _log.warning("generation runs without CUDA graphs: %s", error)
        return None
    if (graph.replay() - expected).abs().max() <= MAX_GRAPH_ERROR:
        return graph
    _log.warning("generation runs without CUDA graphs, because their results differ")
    return None
