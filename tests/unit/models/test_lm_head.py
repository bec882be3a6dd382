"""The chunked loss equals the loss of all logits at once, and so do its gradients."""

import pytest
import torch
import torch.nn.functional as F

from palitune.models import lm_head

VOCABULARY, WIDTH = 53, 8


def reference_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float,
    cap: float | None,
) -> torch.Tensor:
    logits = hidden @ weight.t()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    probabilities = torch.full_like(logits, smoothing / (VOCABULARY - 1))
    probabilities[torch.arange(len(targets)), targets] = 1 - smoothing
    return F.cross_entropy(logits, probabilities, reduction="none")


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
    expected = reference_losses(hidden, weight, targets, smoothing, cap)
    expected_gradients = torch.autograd.grad((expected * share).sum(), inputs)
    layer = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
    layer.weight = weight
    for losses in (
        lm_head.linear_cross_entropy(hidden, weight, targets, smoothing, cap),
        lm_head.checkpointed_cross_entropy(layer, hidden, targets, smoothing, cap),
    ):
        assert torch.allclose(losses, expected, atol=1e-5)
        gradients = torch.autograd.grad((losses * share).sum(), inputs)
        for actual, reference in zip(gradients, expected_gradients, strict=True):
            assert torch.allclose(actual, reference, atol=1e-5)


def test_no_labels_give_no_losses() -> None:
    hidden = torch.empty(0, WIDTH, requires_grad=True)
    losses = lm_head.linear_cross_entropy(
        hidden, torch.randn(VOCABULARY, WIDTH), torch.empty(0).long()
    )
    losses.sum().backward()
    assert losses.shape == (0,)
    assert hidden.grad is not None


def test_soft_capped_logits_stay_below_the_cap_in_order() -> None:
    logits = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    assert torch.equal(lm_head.apply_softcap(logits, None), logits)
    capped = lm_head.apply_softcap(logits, 30.0)
    assert capped.abs().max() <= 30
    assert torch.equal(capped.sort().values, capped)


def test_logits_are_taken_one_position_before_each_label() -> None:
    ignored = lm_head.IGNORE_INDEX
    labels = torch.tensor(
        [
            [ignored, ignored, 5, 6, 7],
            [ignored, ignored, ignored, 3, ignored],
        ]
    )
    assert lm_head.loss_positions(labels).tolist() == [
        [False, True, True, True, False],
        [False, False, True, False, False],
    ]


def test_token_losses_equal_torchs_cross_entropy() -> None:
    logits, targets = torch.randn(6, 11), torch.randint(11, (6,))
    expected = F.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(lm_head.token_losses(logits, targets), expected, atol=1e-6)


def test_label_smoothing_spreads_over_the_other_tokens() -> None:
    logits, targets, share = torch.randn(6, 11), torch.randint(11, (6,)), 0.3
    probabilities = torch.full((6, 11), share / 10)
    probabilities[torch.arange(6), targets] = 1 - share
    expected = F.cross_entropy(logits, probabilities, reduction="none")
    assert torch.allclose(lm_head.token_losses(logits, targets, share), expected, atol=1e-6)
