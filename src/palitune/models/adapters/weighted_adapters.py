"""Combination of the LoRA adapters of a network, and rank reduction of the result."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from peft import PeftModel

from palitune.errors import ModelError
from palitune.models.adapters.checkpoint import load_additional_adapter
from palitune.models.adapters.combination import AdapterCombination, CombinationType, RankReduction
from palitune.models.adapters.lora_updates import LoraUpdate, ReducedUpdate, combine_updates
from palitune.models.adapters.peft_layers import PEFT_PREFIX, replace_lora
from palitune.models.config import Network
from palitune.models.devices import full_float32_precision


def combine_adapters(peft_model: Network, combination: AdapterCombination) -> Network:
    """Load the adapters after the first, which `peft_model` has, and return their combination.

    Raises ModelError if an adapter is none of LoRA, of another base, or of a rank that the rule
    does not combine.
    """
    if combination.is_one_unchanged:
        return peft_model
    if not isinstance(peft_model, PeftModel):
        raise ModelError(
            f"{combination.paths[0]} is not a LoRA adapter; only LoRA adapters can be combined, or "
            "reduced in rank."
        )
    names = _load_others(peft_model, combination)
    updates = _module_updates(peft_model, names)
    rank = _result_rank(updates, combination)
    weights = combination.weights or [1.0] * len(names)
    with _reproducible(combination.seed):
        reduced = {
            module: combine_updates(
                list(by_adapter.values()),
                [weights[number] for number in by_adapter],
                combination.combination_type,
                density=combination.density or 1.0,
                majority_sign=combination.majority_sign,
                rank=rank,
            )
            for module, by_adapter in updates.items()
        }
    _check_result(reduced, updates, combination)
    factors = {module: (one.update.a, one.update.b) for module, one in reduced.items()}
    combined = replace_lora(peft_model, factors)
    if combination.reduces_rank:
        total = sum(one.total for one in reduced.values())
        kept = sum(one.kept for one in reduced.values())
        combined.rank_reduction = RankReduction(
            rank=combined.peft_config["default"].r, kept_update=kept / total if total else 1.0
        )
    return combined.eval()


def _load_others(peft_model: Network, combination: AdapterCombination) -> list[str]:
    """Load the adapters after the first, and return the names of all in the network."""
    names = ["default", *(f"adapter_{n}" for n in range(1, len(combination.paths)))]
    for name, path in zip(names, combination.paths, strict=True):
        try:
            if name != "default":
                load_additional_adapter(
                    peft_model, path, name, allow_base_mismatch=combination.allow_base_mismatch
                )
        except ModelError as error:
            text = str(error)
            raise ModelError(text if path in text else f"{path}: {text}") from error
        if peft_model.peft_config[name].use_dora:
            raise ModelError(
                f"{path} is a DoRA adapter, whose magnitudes cannot be combined or reduced in rank."
                " Set adapters to LoRA adapters without DoRA."
            )
    return names


def _module_updates(peft_model: Network, names: list[str]) -> dict[str, dict[int, LoraUpdate]]:
    """Return the updates of each adapted module by the number of their adapter."""
    return {
        name.removeprefix(PEFT_PREFIX): {
            number: LoraUpdate(
                module.lora_A[adapter].weight.detach().float(),
                module.lora_B[adapter].weight.detach().float(),
                module.scaling[adapter],
            )
            for number, adapter in enumerate(names)
            if adapter in module.lora_A
        }
        for name, module in peft_model.named_modules()
        if hasattr(module, "lora_A")
    }


def _result_rank(
    updates: dict[str, dict[int, LoraUpdate]], combination: AdapterCombination
) -> int | None:
    """Return the rank to reduce to, if any. Raises ModelError if the adapters do not allow it."""
    rule = combination.combination_type
    ranks = [
        max(by_adapter[number].rank for by_adapter in updates.values() if number in by_adapter)
        for number in range(len(combination.paths))
    ]
    if rule.needs_equal_ranks:
        _check_equal_ranks(updates, ranks, combination)
    if rule.prunes and rule.is_svd:
        limit = max(max(u.a.shape[1], len(u.b)) for u in _all_updates(updates))
    else:
        limit = max(ranks) if rule.needs_equal_ranks else sum(ranks)
    if combination.rank is not None and combination.rank >= limit:
        raise ModelError(
            f"rank must be below {limit}, the rank without reduction, got {combination.rank}. "
            "Remove rank, or set a smaller one."
        )
    return combination.rank or (max(ranks) if rule.is_svd else None)


def _check_equal_ranks(
    updates: dict[str, dict[int, LoraUpdate]], ranks: list[int], combination: AdapterCombination
) -> None:
    """Raise ModelError if the updates of a layer differ in rank."""
    if all(len({update.rank for update in layer.values()}) == 1 for layer in updates.values()):
        return
    rule = combination.combination_type
    found = ", ".join(
        f"{path}: {rank}" for path, rank in zip(combination.paths, ranks, strict=True)
    )
    other = "cat" if rule is CombinationType.linear else f"{rule.value}_svd"
    raise ModelError(
        f"combination_type={rule.value} requires adapters of one rank, got {found}. Set "
        f"combination_type={other}."
    )


def _check_result(
    reduced: dict[str, ReducedUpdate],
    updates: dict[str, dict[int, LoraUpdate]],
    combination: AdapterCombination,
) -> None:
    """Raise ModelError if a combined weight is not finite, or if no value is left."""
    for module, one in reduced.items():
        if not bool(one.update.a.isfinite().all() and one.update.b.isfinite().all()):
            raise ModelError(
                f"weights={combination.weights} let {module} overflow. Set smaller weights."
            )
    had_values = any(bool(u.b.any()) and bool(u.a.any()) for u in _all_updates(updates))
    if (
        combination.density is not None
        and had_values
        and not any(one.total for one in reduced.values())
    ):
        raise ModelError(
            f"density={combination.density:g} leaves no value of the adapters. Increase it."
        )


def _all_updates(updates: dict[str, dict[int, LoraUpdate]]) -> Iterator[LoraUpdate]:
    return chain.from_iterable(by_adapter.values() for by_adapter in updates.values())


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Seed torch, compute in full float32 precision, and restore both."""
    with torch.random.fork_rng(), full_float32_precision(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The density 1")  # of PEFT: nothing is dropped
        torch.manual_seed(seed)
        yield
