"""Settings derived from the published hyperparameters for a model and an adapter."""

from typing import Any

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Finetune
from palitune.training.reference_hparams import ReferenceHparams, ResolutionHparams

TABLES = ReferenceHparams(
    paligemma={
        224: ResolutionHparams(
            epochs=5, global_batch_size=128, learning_rate=3e-6, label_smoothing=0.4
        ),
        448: ResolutionHparams(epochs=10),
        896: ResolutionHparams(global_batch_size=32, learning_rate=1e-5),
    },
    paligemma2={"10b": 6e-7},
)


def setting(name: str, family: str, size: str | None, resolution: int | None, full: bool) -> Any:
    return TABLES.lookup(name, family=family, size=size, resolution=resolution, full=full)


@pytest.mark.parametrize(
    ("family", "resolution", "expected"),
    [
        ("paligemma", 224, (5, 128, 3e-6, 0.4)),
        ("paligemma", 448, (10, 128, 3e-6, 0.4)),
        ("paligemma", 896, (5, 32, 1e-5, 0.4)),
        ("paligemma2", 896, (5, 128, 3e-6, 0.4)),
        ("tiny", None, (5, 128, 3e-6, 0.4)),
    ],
)
def test_missing_settings_are_those_of_the_lowest_resolution(
    family: str, resolution: int | None, expected: tuple[float, ...]
) -> None:
    names = ("epochs", "global_batch_size", "learning_rate", "label_smoothing")
    assert expected == tuple(setting(n, family, "3b", resolution, full=True) for n in names)
    assert setting("max_steps", family, "3b", resolution, full=True) is None


def test_paligemma_2_has_a_learning_rate_by_size() -> None:
    assert setting("learning_rate", "paligemma2", "10b", 448, full=True) == 6e-7
    assert setting("learning_rate", "paligemma2", "3b", 448, full=True) == 3e-6
    assert setting("learning_rate", "paligemma", "10b", 448, full=True) == 3e-6


def test_the_learning_rate_of_lora_is_ten_times_higher() -> None:
    assert setting("learning_rate", "paligemma2", "10b", 224, full=False) == pytest.approx(6e-6)
    slower = ReferenceHparams(lora_lr_multiplier=3.0).lookup(
        "learning_rate", family="paligemma", size=None, resolution=None, full=False
    )
    assert slower == pytest.approx(3e-5)


def composed(*overrides: str) -> Any:
    return compose(Finetune, ["experiment=textvqa", *overrides]).training


def test_an_experiment_uses_the_published_settings_of_its_model() -> None:
    lora = composed()
    assert (lora.epochs, lora.global_batch_size, lora.learning_rate) == (
        5,
        256,
        pytest.approx(3e-5),
    )
    larger = composed("model.size=10b", "adapter=full")
    assert larger.learning_rate == 6e-7
    older = composed("model=paligemma", "model.resolution=448", "adapter=qlora")
    assert (older.epochs, older.learning_rate) == (10, pytest.approx(3e-5))


def test_user_settings_override_published_ones() -> None:
    run = composed(
        "training.learning_rate=1e-3", "training.epochs=2", "reference_hparams.lora_lr_multiplier=5"
    )
    assert (run.learning_rate, run.epochs) == (1e-3, 2)
    assert composed("reference_hparams.lora_lr_multiplier=5").learning_rate == pytest.approx(1.5e-5)
