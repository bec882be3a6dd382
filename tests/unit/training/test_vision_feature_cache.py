"""The vision cache changes no result, repairs itself, and rejects unsupported settings."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.images import file_cache
from palitune.data.images.file_cache import FileCache
from palitune.data.images.resize import ResizeBackend
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.errors import TrainingError
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.vision_feature_cache import (
    CachedFeatureCollator,
    build_cached_feature_collator,
)


class Setup:
    """A network with an adapter, examples of which one has the images of two others, a folder."""

    def __init__(self, base: Path, examples: list[Example], folder: Path) -> None:
        self.base, self.folder = base, folder
        self.network = self.adapted("language", "projector")
        self.processor = AutoProcessor.from_pretrained(base)
        both = replace(examples[1], images=examples[1].images + examples[0].images)
        self.training_set = TrainingSet([*examples, both], TargetSampling.first, 0)
        self.settings = TrainingConfig(
            vision_feature_cache=str(folder), global_batch_size=4, micro_batch_size=4
        )

    def adapted(self, *targets: str) -> Any:
        return Lora(rank=4, targets=list(targets)).apply_to(load(Local(path=str(self.base))))

    def collator(self) -> CachedFeatureCollator:
        return build_cached_feature_collator(
            self.network,
            TrainingData(
                self.training_set, Collator(self.processor, resize_backend=self.settings.resize)
            ),
            self.settings,
        )

    def entries(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())


@pytest.fixture
def setup(tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path) -> Setup:
    return Setup(tiny("paligemma"), examples, tmp_path / "cache")


def test_losses_and_gradients_equal_those_without_cache(setup: Setup) -> None:
    rows = [setup.training_set[index] for index in range(6)]
    batch = setup.collator().collate_train(rows)
    assert "pixel_values" not in batch
    assert len(batch["vision_features"]) == 5
    cached, expected = [], []
    uncached_batch = Collator(setup.processor).collate_train(rows)
    for results, inputs in ((cached, batch), (expected, uncached_batch)):
        setup.network.zero_grad()
        losses = setup.network(**inputs).loss
        losses.sum().backward()
        results += [
            losses.detach(),
            *(p.grad for p in setup.network.parameters() if p.requires_grad),
        ]
    for value, other in zip(cached, expected, strict=True):
        assert (value - other).norm() <= 1e-5 * other.norm()


def test_an_entry_is_computed_once_and_again_if_damaged(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.collator()
    assert "5 images of 16 KiB each; 5 to be made, 80 KiB in" in output(capsys)
    whole = {file: file.read_bytes() for file in setup.entries()}
    assert len(whole) == 5
    setup.collator()
    assert "0 to be made" in output(capsys)
    truncated, flipped, deleted, *_ = whole
    truncated.write_bytes(whole[truncated][:100])
    flipped.write_bytes(bytes([whole[flipped][0] ^ 1]) + whole[flipped][1:])
    deleted.unlink()
    setup.collator()
    assert "3 to be made" in output(capsys)
    assert {file: file.read_bytes() for file in setup.entries()} == whole


def output(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_entries_depend_on_the_tower_and_the_resizing(setup: Setup) -> None:
    setup.collator()
    with torch.no_grad():
        next(iter(tower(setup).parameters())).add_(1)
    setup.collator()
    assert len(setup.entries()) == 10
    setup.processor.image_processor.resample = 2
    setup.collator()
    assert len(setup.entries()) == 15
    assert len({file.read_bytes() for file in setup.entries()}) == 15
    setup.settings = replace(setup.settings, resize=ResizeBackend.fast)
    setup.collator()
    assert len(setup.entries()) == 20


def tower(setup: Setup) -> Any:
    return setup.network.get_base_model().model.vision_tower


def test_data_loader_workers_read_the_cache(setup: Setup) -> None:
    collator = setup.collator()
    loader = DataLoader(
        setup.training_set, batch_size=2, num_workers=2, collate_fn=collator.collate_train
    )
    expected = [
        collator.collate_train([setup.training_set[i], setup.training_set[i + 1]])
        for i in (0, 2, 4)
    ]
    for batch, reference in zip(loader, expected, strict=True):
        assert torch.equal(batch["vision_features"], reference["vision_features"])


def test_two_processes_start_at_different_images(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = FileCache.write

    def record(cache: FileCache, entry: Path, values: np.ndarray) -> None:
        written.append(entry)
        write(cache, entry, values)

    monkeypatch.setattr(FileCache, "write", record)
    monkeypatch.setenv("WORLD_SIZE", "2")
    setup.settings = replace(setup.settings, global_batch_size=1, micro_batch_size=1)
    orders = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        for file in setup.entries():
            file.unlink()
        written.clear()
        setup.collator()
        orders.append(list(written))
    assert orders[1] == orders[0][2:] + orders[0][:2]


def test_a_trained_tower_is_rejected(setup: Setup) -> None:
    setup.network = setup.adapted("vision.mlp")
    with pytest.raises(TrainingError, match="the vision tower is trained"):
        setup.collator()


def test_augmentation_is_rejected(setup: Setup) -> None:
    class Augmented(TrainingSet):
        pass

    setup.training_set = Augmented(setup.training_set.examples, TargetSampling.first, 0)
    with pytest.raises(TrainingError, match="augmentation"):
        setup.collator()


def test_a_disk_that_is_too_small_is_reported_before_anything_is_computed(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(file_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TrainingError, match=r"requires 80 KiB in .* 1000 B are free"):
        setup.collator()
    assert setup.entries() == []
