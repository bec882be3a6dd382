"""The moments of a resumed paged optimizer are in paged memory again."""

from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit

from palitune.training.state.paged_optimizer import restore_paging


def loaded(kind: Any, values: torch.Tensor) -> Any:
    """Return an optimizer of one parameter with a state as `load_state_dict` leaves it."""
    optimizer = kind([torch.nn.Parameter(torch.zeros_like(values, dtype=torch.float32))])
    (parameter,) = optimizer.param_groups[0]["params"]
    optimizer.state[parameter] = {
        "step": 3, "state1": values, "state2": values + 1, "absmax1": torch.ones(4),
    }  # fmt: skip
    return optimizer


def test_moments_are_copied_into_paged_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    def paged_buffer(self: Any, p: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        buffer: Any = torch.zeros_like(p, dtype=dtype)
        buffer.is_paged = True
        return buffer

    monkeypatch.setattr(PagedAdamW8bit, "get_state_buffer", paged_buffer)
    values = torch.arange(6, dtype=torch.uint8).view(2, 3)
    optimizer = loaded(PagedAdamW8bit, values)
    restore_paging(optimizer)
    (state,) = optimizer.state.values()
    assert state["state1"].is_paged
    assert state["state2"].is_paged
    assert state["state1"].dtype == torch.uint8
    assert torch.equal(state["state1"], values)
    assert torch.equal(state["state2"], values + 1)
    assert state["step"] == 3
    assert not hasattr(state["absmax1"], "is_paged")


@pytest.mark.parametrize("kind", [AdamW8bit, torch.optim.AdamW])
def test_other_optimizers_keep_their_tensors(kind: Any) -> None:
    values = torch.ones(2, 3)
    optimizer = loaded(kind, values)
    restore_paging(optimizer)
    (state,) = optimizer.state.values()
    assert state["state1"] is values
