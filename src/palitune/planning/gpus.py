"""Data sheets of the GPUs that a run can be planned for.

Memory, memory bandwidth and throughput of dense matrix products (without sparsity, with float32
accumulation) as published in NVIDIA's data sheets and architecture white papers: Turing (T4),
Ampere GA102 (RTX 3090, A10) and A100, Ada (RTX 4090, L4, L40S), Hopper (H100 SXM, H200), Blackwell
(RTX 5090).
"""

import re
from dataclasses import dataclass

from palitune.errors import DataError, unknown_choice
from palitune.planning.flops import Gpu


@dataclass(frozen=True)
class Card:
    """A GPU model."""

    name: str
    memory: float
    """GiB."""
    bandwidth: float
    """Memory bandwidth in TB/s."""
    host_bandwidth: float
    """Bandwidth of PCI Express in GB/s, in one direction."""
    bf16_tflops: float | None
    """Peak TFLOP/s of dense products in bfloat16; None if the card has no bfloat16 units."""
    fp16_tflops: float
    """Peak TFLOP/s of dense products in float16."""
    fp32_tflops: float
    """Peak TFLOP/s of float32 without TF32."""


CARDS = {
    card.name: card
    for card in (
        Card("T4", 16, 0.320, 16, None, 65, 8.1),
        Card("L4", 24, 0.300, 32, 121, 121, 30.3),
        Card("A10", 24, 0.600, 32, 125, 125, 31.2),
        Card("3090", 24, 0.936, 32, 71, 71, 35.6),
        Card("4090", 24, 1.008, 32, 165, 165, 82.6),
        Card("5090", 32, 1.792, 64, 209.5, 209.5, 104.8),
        Card("A100-40", 40, 1.555, 32, 312, 312, 19.5),
        Card("L40S", 48, 0.864, 32, 362, 362, 91.6),
        Card("A100-80", 80, 2.039, 32, 312, 312, 19.5),
        Card("H100", 80, 3.35, 64, 989, 989, 67),
        Card("H200", 141, 4.8, 64, 989, 989, 67),
    )
}
"""Cards by name, from the smallest memory to the largest."""

HOST_BANDWIDTH_SHARE = 0.8
"""Share of the bandwidth of PCI Express that copies of pinned memory reach; an estimate."""
DEFAULT_CARD = "H100"
DEFAULT_CARD_BY_MEMORY = {16.0: "T4", 24.0: "4090", 32.0: "5090", 40.0: "A100-40", 48.0: "L40S"}
"""The card that a size of memory stands for, up to that size; above it DEFAULT_CARD or H200."""


def find_card(name: str | None, memory: float | None) -> Card:
    """Return the card of a name, or the usual card with at least this memory.

    Args:
        name: Name of a card, case-insensitive; "RTX" and spaces are ignored. None: by memory.
        memory: Planned memory in GiB; None: that of the card.

    Raises:
        DataError: There is no card of this name.
    """
    if name is not None:
        plain = name.upper().replace("RTX", "").replace("NVIDIA", "").strip(" _-").replace(" ", "-")
        if plain not in CARDS:
            raise DataError(f"gpu: {unknown_choice('card', name, CARDS)}. Set gpu_memory instead.")
        return CARDS[plain]
    if memory is None:
        return CARDS[DEFAULT_CARD]
    for limit, card in DEFAULT_CARD_BY_MEMORY.items():
        if memory <= limit:
            return CARDS[card]
    return CARDS[DEFAULT_CARD if memory <= CARDS[DEFAULT_CARD].memory else "H200"]


def card_of_device(device: str, memory: float | None = None) -> Card | None:
    """Return the card of a device's name as torch reports it; None if the table lacks it.

    Args:
        device: For example "NVIDIA A100-SXM4-80GB".
        memory: Memory in GiB, which distinguishes cards of one name; None: the number before GB in
            the name, if there is one.
    """
    words = re.split(r"[^A-Z0-9]+", device.upper())
    if memory is None:
        memory = next((float(word[:-2]) for word in words if re.fullmatch(r"\d+GB", word)), 0)
    found = [card for name, card in CARDS.items() if name.partition("-")[0] in words]
    return min(found, key=lambda card: abs(card.memory - memory), default=None)


def planned_gpu(
    name: str | None,
    memory: float | None,
    tflops: float | None,
    bandwidth: float | None,
    mfu: float,
) -> Gpu:
    """Return the planned device: a card of the table with the values that are set.

    Args:
        name: Name of a card, or None.
        memory: Memory in GiB, or None. Without a name it also selects the card.
        tflops: Peak TFLOP/s in the compute dtype, or None.
        bandwidth: Memory bandwidth in TB/s, or None.
        mfu: Model FLOPs utilization.

    Raises:
        DataError: There is no card of this name.
    """
    card = find_card(name, memory)
    return Gpu(
        memory or card.memory,
        tflops or card.bf16_tflops or card.fp16_tflops,
        mfu,
        bandwidth or card.bandwidth,
        tflops or card.fp32_tflops,
        card.host_bandwidth * HOST_BANDWIDTH_SHARE,
        card.name,
    )
