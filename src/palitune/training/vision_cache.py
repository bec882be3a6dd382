"""What the frozen vision tower makes of each training image, on disk: an epoch reads it instead.

An entry holds the tower's output before the projector: half the size of what comes after, and right
for a projector that is trained. Besides the image it depends on the tower's weights and precision,
and on the resize.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import rich
import torch
from rich.progress import track

from palitune.data.collator import Batch, Collator
from palitune.data.entries import Entries, readable
from palitune.data.views import PLAIN, View
from palitune.data.visits import Visits
from palitune.models.prefix_lm import PrefixModel
from palitune.training.faults import TrainingError
from palitune.training.settings import Training


class CachedCollator(Collator):
    """Gives what the vision tower made of the images instead of the images."""

    def __init__(self, processor: Any, *, max_length: int | None = None) -> None:
        super().__init__(processor, max_length=max_length)
        self.files: dict[str, Path] = {}
        """By path of the image."""
        self.shape: tuple[int, int] = (0, 0)
        """Patches and width of an entry."""
        self.dtype = torch.float32

    def train(self, visits: Any) -> Batch:
        batch = super().train(visits)
        batch["vision_features"] = batch.pop("pixel_values")
        return batch

    def pixels(self, path: str, view: View) -> torch.Tensor:
        """(patches, width): the entry, memory-mapped; every view is the plain one."""
        count = self.shape[0] * self.shape[1]
        entry = str(self.files[path])
        return torch.from_file(entry, shared=False, size=count, dtype=self.dtype).view(self.shape)


def cached_collator(
    network: Any, processor: Any, visits: Visits, settings: Training
) -> CachedCollator:
    """Make what is missing or broken in `settings.vision_cache`; return a collator that reads it.

    Raises TrainingError where the tower's output is not the same on every visit, or the disk is
    too small.
    """
    refuse_trained_tower(network)
    body = _body(network)
    if type(visits) is not Visits:
        raise TrainingError(
            "training.vision_cache: augmentation shows an image otherwise on every visit; switch "
            "augmentation off, or set training.vision_cache=null"
        )
    collator = CachedCollator(processor, max_length=settings.max_length)
    config = body.config.vision_config
    collator.shape = ((config.image_size // config.patch_size) ** 2, config.hidden_size)
    collator.dtype = next(p.dtype for p in body.vision_tower.parameters())
    if any(example.marked for example in visits.examples):
        raise TrainingError(
            "training.vision_cache: boxes are drawn into the images (task.mark), which the cache "
            "does not know of; set training.vision_cache=null"
        )
    images = Collator(processor, images=settings.images)
    folder = Path(str(settings.vision_cache)) / _fingerprint(body.vision_tower, images)
    entries = Entries(folder, collator.shape[0] * collator.shape[1] * collator.dtype.itemsize)
    paths = dict.fromkeys(path for example in visits.examples for path in example.images)
    for path in track(paths, description="looking up images", transient=True):
        collator.files[path] = entries.of(path)
    _fill(body, images, collator, entries, settings.micro_batch_size)
    return collator


def refuse_trained_tower(network: Any) -> None:
    """Raise TrainingError where the tower's output will not stay what it is."""
    if any(weight.requires_grad for weight in _body(network).vision_tower.parameters()):
        raise TrainingError(
            "training.vision_cache: the vision tower is trained, so its output changes with every "
            "step; leave vision out of what the adapter trains, or set training.vision_cache=null"
        )


def _body(network: Any) -> PrefixModel:
    return next(module for module in network.modules() if isinstance(module, PrefixModel))


def _fill(
    body: PrefixModel, images: Collator, cache: CachedCollator, entries: Entries, batch_size: int
) -> None:
    """Make the entries that are missing, broken or cut off."""
    wanted = {file: path for path, file in cache.files.items() if entries.read(file) is None}
    needed, free = entries.room(len(wanted))
    rich.print(
        f"vision cache: {len(set(cache.files.values()))} images of {readable(entries.size)} each; "
        f"{len(wanted)} to be made, {readable(needed)} in {entries.folder} ({readable(free)} free)"
    )
    if needed > free:
        raise TrainingError(
            f"training.vision_cache: {readable(needed)} are needed in {entries.folder} and "
            f"{readable(free)} are free; name a folder on another disk, or set it to null"
        )
    # Processes side by side begin at different places and leave out what another has made.
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    turned = list(wanted)[rank * len(wanted) // processes :]
    turned += list(wanted)[: rank * len(wanted) // processes]
    starts = range(0, len(turned), batch_size)
    for start in track(starts, description="vision cache", transient=True):
        missing = [
            file for file in turned[start : start + batch_size] if entries.read(file) is None
        ]
        if missing:
            pixels = torch.stack([images.pixels(wanted[file], PLAIN) for file in missing])
            with torch.no_grad():
                features = body.get_image_features(pixels.to(body.device)).last_hidden_state
            for file, made in zip(missing, features.to(cache.dtype).cpu(), strict=True):
                entries.write(file, made.contiguous().view(torch.uint8).numpy())


def _fingerprint(tower: torch.nn.Module, images: Collator) -> str:
    """Name all that an entry depends on besides the image."""
    resize = f"{images.image_size} {int(images.resample)} {images.images.value}"
    told = hashlib.sha256(resize.encode())
    for name, weight in sorted(tower.state_dict().items()):
        told.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        told.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()[:16]
