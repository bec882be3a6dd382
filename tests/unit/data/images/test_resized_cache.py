"""The store changes nothing but time: an image is made once, and broken entries anew."""

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

    def seen(self) -> torch.Tensor:
        return self.collator().collate_prompts(self.examples)["pixel_values"]

    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.rglob("*") if file.is_file())


@pytest.fixture
def setup(examples: list[Example], tmp_path: Path) -> Setup:
    return Setup(examples, tmp_path / "store")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files that were decoded."""
    files: list[Any] = []
    decode = collator_module.decode_image
    monkeypatch.setattr(
        collator_module, "decode_image", lambda path: (files.append(path), decode(path))[1]
    )
    return files


def test_an_image_is_decoded_once_and_broken_entries_are_made_anew(
    setup: Setup, decoded: list[Any]
) -> None:
    assert torch.equal(setup.seen(), setup.plain)
    assert len(decoded) == len(setup.files()) == 5
    assert torch.equal(setup.seen(), setup.plain)
    assert len(decoded) == 5
    whole = {file: file.read_bytes() for file in setup.files()}
    cut, flipped, gone, *_ = whole
    cut.write_bytes(whole[cut][:100])
    flipped.write_bytes(bytes([whole[flipped][0] ^ 1]) + whole[flipped][1:])
    gone.unlink()
    assert torch.equal(setup.seen(), setup.plain)
    assert len(decoded) == 8
    assert {file: file.read_bytes() for file in setup.files()} == whole


def test_two_workers_fill_it_at_once(setup: Setup) -> None:
    twice = [*setup.examples, *setup.examples]
    loader = DataLoader(
        twice, batch_size=5, num_workers=2, collate_fn=setup.collator().collate_prompts
    )
    for batch in loader:
        assert torch.equal(batch["pixel_values"], setup.plain)
    assert len(setup.files()) == 5


def test_another_way_size_or_filter_has_entries_of_its_own(setup: Setup) -> None:
    setup.seen()
    setup.collator(ResizeBackend.fast).collate_prompts(setup.examples)
    assert len(setup.files()) == 10
    setup.processor.image_processor.resample = 2
    setup.seen()
    setup.processor = build_processor(56)
    setup.seen()
    assert len(setup.files()) == 20


def test_only_plain_views_are_kept(setup: Setup, decoded: list[Any]) -> None:
    path = setup.examples[0].images[0]
    mirrored = setup.collator().load_pixels(path, ImageTransform(hflip=True))
    assert setup.files() == []
    assert torch.equal(
        mirrored, Collator(setup.processor).load_pixels(path, ImageTransform(hflip=True))
    )


def test_a_box_is_drawn_into_the_batch_and_not_into_the_store(setup: Setup) -> None:
    setup.seen()
    marked = [replace(setup.examples[0], marked_box=(10, 10, 60, 60))]
    drawn = setup.collator().collate_prompts(marked)["pixel_values"]
    assert torch.equal(drawn, Collator(setup.processor).collate_prompts(marked)["pixel_values"])
    assert not torch.equal(drawn[0], setup.plain[0])
    assert torch.equal(
        setup.collator().load_pixels(marked[0].images[0], IDENTITY_TRANSFORM), setup.plain[0]
    )


def test_what_it_takes_is_told_before_and_only_while_something_is_missing(
    setup: Setup, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = setup.collator().image_cache
    store.check_disk_space(setup.examples)
    assert "5 images of 37 KiB each; 0 are there; up to 184 KiB will be written" in said(capsys)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(file_cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"184 KiB are needed .* 1000 B are free"):
        store.check_disk_space(setup.examples)
    capsys.readouterr()
    setup.seen()
    store.check_disk_space(setup.examples)
    assert said(capsys) == ""


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_missing_image_and_a_folder_that_cannot_be_written_are_told(setup: Setup) -> None:
    gone = replace(setup.examples[0], images=("/nowhere/a.png",))
    with pytest.raises(DataError, match=r"drawn:0: image /nowhere/a\.png does not exist"):
        setup.collator().collate_prompts([gone])
    setup.folder.write_text("a file")
    with pytest.raises(DataError, match=r"an image cannot be kept here .* image_cache"):
        setup.seen()
