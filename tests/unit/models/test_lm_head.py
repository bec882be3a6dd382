"""The head's loss equals the plain one, a few positions at a time, in its gradients too."""

import pytest
import torch
import torch.nn.functional as F

from palitune.models import lm_head

VOCABULARY, WIDTH = 53, 8


def plain(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float,
    cap: float | None,
) -> torch.Tensor:
    logits = hidden @ weight.t()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    wanted = torch.full_like(logits, smoothing / (VOCABULARY - 1))
    wanted[torch.arange(len(targets)), targets] = 1 - smoothing
    return F.cross_entropy(logits, wanted, reduction="none")


@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("trains_head", [False, True])
def test_losses_and_gradients_equal_those_of_all_logits_at_once(
    chunk: int,
    cap: float | None,
    smoothing: float,
    trains_head: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lm_head, "CHUNK_BYTES", {"cpu": 4 * VOCABULARY * chunk})
    torch.manual_seed(0)
    hidden = torch.randn(7, WIDTH, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(VOCABULARY, WIDTH), trains_head)
    targets, share = torch.randint(VOCABULARY, (7,)), torch.rand(7)
    inputs = [hidden, weight] if trains_head else [hidden]
    wanted = plain(hidden, weight, targets, smoothing, cap)
    wanted_gradients = torch.autograd.grad((wanted * share).sum(), inputs)
    layer = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    layer.weight = weight
    for losses in (
        lm_head.linear_cross_entropy(hidden, weight, targets, smoothing, cap),
        lm_head.checkpointed_cross_entropy(layer, hidden, targets, smoothing, cap),
    ):
        assert torch.allclose(losses, wanted, atol=1e-5)
        gradients = torch.autograd.grad((losses * share).sum(), inputs)
        for found, expected in zip(gradients, wanted_gradients, strict=True):
            assert torch.allclose(found, expected, atol=1e-5)


def test_no_labels_give_no_losses() -> None:
    nothing = torch.empty(0, WIDTH, requires_grad=True)
    losses = lm_head.linear_cross_entropy(
        nothing, torch.randn(VOCABULARY, WIDTH), torch.empty(0).long()
    )
    losses.sum().backward()
    assert losses.shape == (0,)
    assert nothing.grad is not None


def test_soft_capped_logits_stay_below_the_cap_in_order() -> None:
    logits = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    assert torch.equal(lm_head.apply_softcap(logits, None), logits)
    bent = lm_head.apply_softcap(logits, 30.0)
    assert bent.abs().max() <= 30
    assert torch.equal(bent.sort().values, bent)
