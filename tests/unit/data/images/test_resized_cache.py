"""The cache does not change pixels; images are resized once, and damaged entries again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from palitune.data import collator as collator_module
from palitune.data.collator import Collator
from palitune.data.images import file_cache
from palitune.data.images.resize import ResizeBackend
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ImageTransform
from palitune.errors import DataError
from palitune.records import Example

from support.tiny_models import build_processor


class Setup:
    def __init__(self, examples: list[Example], folder: Path) -> None:
        self.processor, self.examples, self.folder = build_processor(), examples, folder
        self.plain = Collator(self.processor).collate_prompts(examples)["pixel_values"]

    def collator(self, images: ResizeBackend = ResizeBackend.exact) -> Collator:
        return Collator(self.processor, resize_backend=images, image_cache=str(self.folder))

    def pixels(self) -> torch.Tensor:
        return self.collator().collate_prompts(self.examples)["pixel_values"]

    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())


@pytest.fixture
def setup(examples: list[Example], tmp_path: Path) -> Setup:
    return Setup(examples, tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Paths that were decoded."""
    files: list[Any] = []
    decode = collator_module.decode_image
    monkeypatch.setattr(
        collator_module, "decode_image", lambda path: (files.append(path), decode(path))[1]
    )
    return files


def test_an_image_is_decoded_once_and_damaged_entries_are_created_again(
    setup: Setup, decoded: list[Any]
) -> None:
    assert torch.equal(setup.pixels(), setup.plain)
    assert len(decoded) == len(setup.files()) == 5
    assert torch.equal(setup.pixels(), setup.plain)
    assert len(decoded) == 5
    complete = {file: file.read_bytes() for file in setup.files()}
    truncated, flipped, deleted, *_ = complete
    truncated.write_bytes(complete[truncated][:100])
    flipped.write_bytes(bytes([complete[flipped][0] ^ 1]) + complete[flipped][1:])
    deleted.unlink()
    assert torch.equal(setup.pixels(), setup.plain)
    assert len(decoded) == 8
    assert {file: file.read_bytes() for file in setup.files()} == complete


def test_two_workers_fill_the_cache_in_parallel(setup: Setup) -> None:
    twice = [*setup.examples, *setup.examples]
    loader = DataLoader(
        twice, batch_size=5, num_workers=2, collate_fn=setup.collator().collate_prompts
    )
    for batch in loader:
        assert torch.equal(batch["pixel_values"], setup.plain)
    assert len(setup.files()) == 5


def test_another_backend_size_or_filter_has_different_entries(setup: Setup) -> None:
    setup.pixels()
    setup.collator(ResizeBackend.fast).collate_prompts(setup.examples)
    assert len(setup.files()) == 10
    setup.processor.image_processor.resample = 2
    setup.pixels()
    setup.processor = build_processor(56)
    setup.pixels()
    assert len(setup.files()) == 20


def test_only_images_without_transform_are_cached(setup: Setup, decoded: list[Any]) -> None:
    path = setup.examples[0].images[0]
    flipped = setup.collator().load_pixels(path, ImageTransform(hflip=True))
    assert setup.files() == []
    assert torch.equal(
        flipped, Collator(setup.processor).load_pixels(path, ImageTransform(hflip=True))
    )


def test_a_box_is_drawn_into_the_batch_and_not_into_the_cache(setup: Setup) -> None:
    setup.pixels()
    marked = [replace(setup.examples[0], marked_box=(10, 10, 60, 60))]
    marked_pixels = setup.collator().collate_prompts(marked)["pixel_values"]
    assert torch.equal(
        marked_pixels, Collator(setup.processor).collate_prompts(marked)["pixel_values"]
    )
    assert not torch.equal(marked_pixels[0], setup.plain[0])
    assert torch.equal(
        setup.collator().load_pixels(marked[0].images[0], IDENTITY_TRANSFORM), setup.plain[0]
    )


def test_the_required_disk_space_is_printed_only_if_an_image_is_not_cached(
    setup: Setup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = setup.collator().image_cache
    cache.check_disk_space(setup.examples)
    assert "5 images of 37 KiB each, 0 already cached; up to 184 KiB will be written" in printed(
        capsys
    )
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(file_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"image_cache requires 184 KiB in .* 1000 B are free"):
        cache.check_disk_space(setup.examples)
    capsys.readouterr()
    setup.pixels()
    cache.check_disk_space(setup.examples)
    assert printed(capsys) == ""


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_missing_image_and_an_unwritable_folder_are_errors(setup: Setup) -> None:
    missing = replace(setup.examples[0], images=("/nowhere/a.png",))
    with pytest.raises(DataError, match=r"drawn:0: image /nowhere/a\.png does not exist"):
        setup.collator().collate_prompts([missing])
    setup.folder.write_text("a file")
    with pytest.raises(DataError, match=r"an image cannot be cached here .* image_cache"):
        setup.pixels()
