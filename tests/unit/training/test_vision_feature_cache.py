"""The vision cache changes nothing but time, mends itself, and refuses what it cannot serve."""

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
        self.visits = TrainingSet([*examples, both], TargetSampling.first, 0)
        self.settings = TrainingConfig(
            vision_feature_cache=str(folder), global_batch_size=4, micro_batch_size=4
        )

    def adapted(self, *targets: str) -> Any:
        return Lora(rank=4, targets=list(targets)).apply_to(load(Local(path=str(self.base))))

    def collator(self) -> CachedFeatureCollator:
        return build_cached_feature_collator(
            self.network, self.processor, self.visits, self.settings
        )

    def entries(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())


@pytest.fixture
def setup(tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path) -> Setup:
    return Setup(tiny("paligemma"), examples, tmp_path / "cache")


def test_losses_and_gradients_are_those_of_the_images(setup: Setup) -> None:
    rows = [setup.visits[index] for index in range(6)]
    batch = setup.collator().collate_train(rows)
    assert "pixel_values" not in batch
    assert len(batch["vision_features"]) == 5
    found, wanted = [], []
    for kept, told in ((found, batch), (wanted, Collator(setup.processor).collate_train(rows))):
        setup.network.zero_grad()
        losses = setup.network(**told).loss
        losses.sum().backward()
        kept += [losses.detach(), *(p.grad for p in setup.network.parameters() if p.requires_grad)]
    for value, other in zip(found, wanted, strict=True):
        assert (value - other).norm() <= 1e-5 * other.norm()


def test_an_image_is_made_once_and_broken_entries_anew(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.collator()
    assert "5 images of 16 KiB each; 5 to be made, 80 KiB in" in said(capsys)
    whole = {file: file.read_bytes() for file in setup.entries()}
    assert len(whole) == 5
    setup.collator()
    assert "0 to be made" in said(capsys)
    cut, flipped, gone, *_ = whole
    cut.write_bytes(whole[cut][:100])
    flipped.write_bytes(bytes([whole[flipped][0] ^ 1]) + whole[flipped][1:])
    gone.unlink()
    setup.collator()
    assert "3 to be made" in said(capsys)
    assert {file: file.read_bytes() for file in setup.entries()} == whole


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_another_tower_image_or_resize_has_entries_of_its_own(setup: Setup) -> None:
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


def test_the_workers_of_a_loader_read_it(setup: Setup) -> None:
    collator = setup.collator()
    loader = DataLoader(
        setup.visits, batch_size=2, num_workers=2, collate_fn=collator.collate_train
    )
    expected = [collator.collate_train([setup.visits[i], setup.visits[i + 1]]) for i in (0, 2, 4)]
    for batch, wanted in zip(loader, expected, strict=True):
        assert torch.equal(batch["vision_features"], wanted["vision_features"])


def test_two_processes_start_at_different_images(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = FileCache.write

    def noting(entries: FileCache, entry: Path, made: np.ndarray) -> None:
        written.append(entry)
        write(file_cache, entry, made)

    monkeypatch.setattr(FileCache, "write", noting)
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


def test_a_trained_tower_is_refused(setup: Setup) -> None:
    setup.network = setup.adapted("vision.mlp")
    with pytest.raises(TrainingError, match="the vision tower is trained"):
        setup.collator()


def test_augmentation_is_refused(setup: Setup) -> None:
    class Turned(TrainingSet):
        pass

    setup.visits = Turned(setup.visits.examples, TargetSampling.first, 0)
    with pytest.raises(TrainingError, match="augmentation"):
        setup.collator()


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(file_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(TrainingError, match=r"80 KiB are needed .* 1000 B are free"):
        setup.collator()
    assert setup.entries() == []
