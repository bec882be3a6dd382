"""The advice after an out-of-memory names settings that the planner predicts to fit."""

import pytest

from palitune.evaluation.config import EvaluationConfig
from palitune.models.adapters.config import AdapterConfig, Lora, Qlora
from palitune.models.config import ModelConfig, PaliGemma2
from palitune.planning import out_of_memory
from palitune.planning.out_of_memory import FailedRun, describe_out_of_memory
from palitune.training.config import TrainingConfig


def sentence(
    monkeypatch: pytest.MonkeyPatch,
    gib: float,
    model: ModelConfig,
    adapter: AdapterConfig,
    *,
    trains: bool = True,
) -> str:
    monkeypatch.setattr(out_of_memory, "default_device_type", lambda: "cuda")
    monkeypatch.setattr(out_of_memory, "total_memory", lambda device: int(gib * 2**30))
    run = FailedRun(
        model, adapter, TrainingConfig(), EvaluationConfig(), data=None, task=None, trains=trains
    )
    return describe_out_of_memory(run)


def test_smaller_micro_batches_and_other_settings_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = sentence(monkeypatch, 16, PaliGemma2(resolution=448), Lora())
    assert text.startswith("out of memory with training.micro_batch_size=4 on a device of 16.0 GiB")
    assert "; predicted to fit: training.micro_batch_size=" in text
    for part in ("training.gradient_checkpointing=true", "adapter=qlora", "model.resolution=224"):
        assert part in text
    assert "\n" not in text


def test_a_run_that_was_predicted_to_fit_is_advised_to_need_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = sentence(monkeypatch, 1000, PaliGemma2(), Lora())
    assert "predicted to fit: training.micro_batch_size=2;" in text


def test_a_model_that_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sentence(monkeypatch, 8, PaliGemma2(size="28b"), Qlora())
    assert text.endswith("Set a smaller model.size or use a device with more memory.")


def test_an_evaluation_is_advised_about_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = sentence(monkeypatch, 8, PaliGemma2(resolution=896), Lora(), trains=False)
    assert "with evaluation.batch_size=16" in text
    assert "adapter=qlora evaluation.batch_size=" in text
    assert "checkpointing" not in text
