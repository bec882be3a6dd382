"""Combined adapters are the weighted sum of the adapters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from palitune.errors import ModelError
from palitune.models.adapters.checkpoint import load_adapter
from palitune.models.adapters.combination import AdapterCombination, CombinationType, MajoritySign
from palitune.models.adapters.config import Full, Lora
from palitune.models.adapters.merging import merge_adapter
from palitune.models.adapters.peft_layers import unload_lora
from palitune.models.adapters.weighted_adapters import combine_adapters
from palitune.models.config import Local, Network
from palitune.models.loading import load, load_combined

from support.tiny_models import build_tiny, save_perturbed_adapter

PROJECTION = "model.language_model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Path]) -> Local:
    return Local(path=str(tiny("paligemma")))


def change(model: Local, combination: AdapterCombination) -> torch.Tensor:
    """Return the change of first base weight by the merged adapters."""
    merged = merge_adapter(load_combined(model, combination, quantized=False))
    weights: dict[str, Any] = load(model).state_dict()
    difference: torch.Tensor = merged.state_dict()[PROJECTION] - weights[PROJECTION]
    return difference


def test_cat_is_the_weighted_sum_for_any_ranks(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    second = save_perturbed_adapter(
        model, Lora(rank=4, targets=["language", "vision"]), tmp_path / "second", seed=2
    )
    alone = [change(model, AdapterCombination(paths=[path])) for path in (first, second)]
    sum_of_both = change(model, AdapterCombination(paths=[first, second]))
    torch.testing.assert_close(sum_of_both, alone[0] + alone[1], atol=1e-6, rtol=0)
    weighted = change(model, AdapterCombination(paths=[first, second], weights=[0.25, -0.5]))
    torch.testing.assert_close(weighted, 0.25 * alone[0] - 0.5 * alone[1], atol=1e-6, rtol=0)


def test_linear_adds_the_factors_of_adapters_of_equal_rank(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    # Both factors are weighted by the root of 1/4, so the sum of two copies is the adapter itself.
    half = AdapterCombination(
        paths=[first, first], weights=[0.25, 0.25], combination_type=CombinationType.linear
    )
    alone = change(model, AdapterCombination(paths=[first]))
    torch.testing.assert_close(change(model, half), alone, atol=1e-6, rtol=0)
    second = save_perturbed_adapter(model, Lora(rank=4), tmp_path / "second", seed=2)
    message = (
        rf"combination_type=linear requires adapters of one rank, got {first}: 2, {second}: 4\. "
        "Set combination_type=cat"
    )
    with pytest.raises(ModelError, match=message):
        change(
            model,
            AdapterCombination(paths=[first, second], combination_type=CombinationType.linear),
        )


def test_only_lora_adapters_of_this_base_are_combined(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=2), tmp_path / "first", seed=1)
    full = save_perturbed_adapter(
        model, Full(trainable_parts=["projector"]), tmp_path / "full", seed=1
    )
    with pytest.raises(ModelError, match="only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[full, first]), quantized=False)
    with pytest.raises(ModelError, match="only LoRA adapters can be combined"):
        load_combined(model, AdapterCombination(paths=[first, full]), quantized=False)
    other_base = Local(path=str(build_tiny(tmp_path / "base", "paligemma", seed=1)))
    second = save_perturbed_adapter(other_base, Lora(rank=2), tmp_path / "second", seed=1)
    with pytest.raises(
        ModelError,
        match=r"second: the adapter was .* weights differ from this model's\. .*_mismatch=true",
    ):
        load_combined(model, AdapterCombination(paths=[first, second]), quantized=False)
    allowed = AdapterCombination(paths=[first, second], allow_base_mismatch=True)
    assert change(model, allowed).abs().max() > 0


RULES: list[dict[str, Any]] = [
    {"combination_type": CombinationType.cat},
    {"combination_type": CombinationType.linear},
    {"combination_type": CombinationType.svd},
    {"combination_type": CombinationType.svd, "rank": 3},
    {"combination_type": CombinationType.ties, "density": 0.5},
    {
        "combination_type": CombinationType.ties,
        "density": 0.7,
        "majority_sign": MajoritySign.frequency,
    },
    {"combination_type": CombinationType.ties_svd, "density": 0.3, "rank": 3},
    {"combination_type": CombinationType.dare_linear, "density": 0.5},
    {"combination_type": CombinationType.dare_linear_svd, "density": 0.5},
    {"combination_type": CombinationType.dare_ties, "density": 0.5},
    {"combination_type": CombinationType.dare_ties_svd, "density": 0.8},
    {"combination_type": CombinationType.magnitude_prune, "density": 0.2},
    {"combination_type": CombinationType.magnitude_prune_svd, "density": 1.0},
]


@pytest.fixture(scope="module")
def three(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Adapters of one rank with different scales; the last is on other layers too."""
    folder, model = tmp_path_factory.mktemp("three"), Local(path=str(tiny("paligemma")))
    adapters = (
        Lora(rank=4),
        Lora(rank=4, alpha=2),
        Lora(rank=4, targets=["language", "projector", "head"]),
    )
    return [
        save_perturbed_adapter(model, adapter, folder / str(n), seed=n)
        for n, adapter in enumerate(adapters)
    ]


@pytest.fixture(scope="module")
def base(tiny: Callable[[str], Path]) -> Network:
    return load(Local(path=str(tiny("paligemma"))))


@pytest.fixture(scope="module")
def by_peft(tiny: Callable[[str], Path], three: list[str]) -> PeftModel:
    """PEFT's own model with the three adapters."""
    base = load(Local(path=str(tiny("paligemma"))))
    network = PeftModel.from_pretrained(base, three[0], "0")
    for name in ("1", "2"):
        network.load_adapter(three[int(name)], name)
    return network


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["combination_type"].value)
def test_every_rule_gives_the_updates_of_peft(
    rule: dict[str, Any],
    base: Network,
    three: list[str],
    by_peft: PeftModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = [0.5, -1.0, 2.0]
    combination = AdapterCombination(paths=three, weights=weights, seed=7, **rule)
    ours = combine_adapters(load_adapter(base, three[0]), combination)
    # PEFT draws the initial weights of the new adapter before it draws what DARE drops.
    monkeypatch.setattr("peft.tuners.lora.model._freeze_adapter", lambda *_: torch.manual_seed(7))
    by_peft.add_weighted_adapter(
        ["0", "1", "2"],
        weights,
        "combined",
        rule["combination_type"].value,
        svd_rank=rule.get("rank"),
        density=rule.get("density"),
        majority_sign_method=rule.get("majority_sign", MajoritySign.total).value,
    )
    layers = {name: layer for name, layer in by_peft.named_modules() if hasattr(layer, "lora_A")}
    assert len(layers) == 14 + 2
    for name, layer in layers.items():
        torch.testing.assert_close(
            ours.get_submodule(name).get_delta_weight("default"),
            layer.get_delta_weight("combined"),
            atol=2e-6,
            rtol=2e-5,
        )
    by_peft.delete_adapter("combined")
    unload_lora(ours)


def test_rslora_adapters_are_summed_with_their_own_scale(model: Local, tmp_path: Path) -> None:
    first = save_perturbed_adapter(model, Lora(rank=4, rslora=True), tmp_path / "first", seed=1)
    second = save_perturbed_adapter(model, Lora(rank=4), tmp_path / "second", seed=2)
    alone = [change(model, AdapterCombination(paths=[path])) for path in (first, second)]
    sum_of_both = change(model, AdapterCombination(paths=[first, second], weights=[1.0, 0.5]))
    torch.testing.assert_close(sum_of_both, alone[0] + 0.5 * alone[1], atol=1e-6, rtol=0)


def test_a_reduced_rank_is_the_nearest_update_and_its_share_is_that_of_the_singular_values(
    model: Local, tmp_path: Path
) -> None:
    path = save_perturbed_adapter(model, Lora(rank=8), tmp_path / "adapter", seed=1)
    before = load_combined(model, AdapterCombination(paths=[path]), quantized=False)
    after = load_combined(model, AdapterCombination(paths=[path], rank=3), quantized=False)
    assert after.peft_config["default"].r == 3
    kept = total = 0.0
    for name, layer in before.named_modules():
        if not hasattr(layer, "lora_A"):
            continue
        u, s, v = torch.linalg.svd(layer.get_delta_weight("default"), full_matrices=False)
        nearest = u[:, :3] * s[:3] @ v[:3]
        reduced = after.get_submodule(name).get_delta_weight("default")
        torch.testing.assert_close(reduced, nearest, atol=1e-5, rtol=0)
        kept, total = kept + float(s[:3].square().sum()), total + float(s.square().sum())
    assert after.rank_reduction.kept_update == pytest.approx(kept / total, abs=1e-6)
    assert before.rank_reduction is None
    half = change(model, AdapterCombination(paths=[path], weights=[0.5]))
    torch.testing.assert_close(
        half, change(model, AdapterCombination(paths=[path])) / 2, atol=1e-6, rtol=0
    )


def test_what_cannot_be_combined_or_reduced_is_one_sentence(
    model: Local, three: list[str], tmp_path: Path
) -> None:
    dora = save_perturbed_adapter(model, Lora(rank=2, dora=True), tmp_path / "dora", seed=1)
    full = save_perturbed_adapter(
        model, Full(trainable_parts=["projector"]), tmp_path / "full", seed=1
    )
    first = three[0]
    ties = {"combination_type": CombinationType.ties}
    for settings, message in (
        ({"paths": [dora, first]}, "dora is a DoRA adapter, whose magnitudes cannot be combined"),
        ({"paths": [dora], "rank": 1}, "dora is a DoRA adapter"),
        ({"paths": [full], "rank": 1}, "only LoRA adapters can be combined, or reduced in rank"),
        ({"paths": [first], "rank": 4}, "rank must be below 4, the rank without reduction, got 4"),
        ({"paths": three, "rank": 12}, "rank must be below 12, the rank without reduction"),
        ({"paths": three, "density": 1e-6, **ties}, "density=1e-06 leaves no value of the adapt"),
        ({"paths": [first], "weights": [1e300]}, r"weights=\[1e\+300\] let .* overflow"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            load_combined(model, AdapterCombination(**settings), quantized=False)  # type: ignore[arg-type]
        assert str(error.value).count(". ") <= 1
