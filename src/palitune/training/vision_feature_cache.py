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
from palitune.data.images.file_cache import FileCache, format_bytes
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ImageTransform
from palitune.data.training_set import TrainingSet
from palitune.errors import TrainingError
from palitune.models.paligemma import PaliGemmaPrefixModel
from palitune.training.config import TrainingConfig


class CachedFeatureCollator(Collator):
    """Gives what the vision tower made of the images instead of the images."""

    def __init__(self, processor: Any, *, max_length: int | None = None) -> None:
        super().__init__(processor, max_length=max_length)
        self.feature_files: dict[str, Path] = {}
        """By path of the image."""
        self.feature_shape: tuple[int, int] = (0, 0)
        """Patches and width of an entry."""
        self.feature_dtype = torch.float32

    def collate_train(self, samples: Any) -> Batch:
        batch = super().collate_train(samples)
        batch["vision_features"] = batch.pop("pixel_values")
        return batch

    def load_pixels(self, path: str, transform: ImageTransform) -> torch.Tensor:
        """(patches, width): the entry, memory-mapped; every view is the plain one."""
        count = self.feature_shape[0] * self.feature_shape[1]
        entry = str(self.feature_files[path])
        return torch.from_file(entry, shared=False, size=count, dtype=self.feature_dtype).view(
            self.feature_shape
        )


def build_cached_feature_collator(
    network: Any, processor: Any, training_set: TrainingSet, settings: TrainingConfig
) -> CachedFeatureCollator:
    """Make what is missing or broken in `settings.vision_feature_cache`; return a collator that reads it.

    Raises TrainingError where the tower's output is not the same on every visit, or the disk is
    too small.
    """
    check_vision_frozen(network)
    body = _prefix_model(network)
    if type(training_set) is not TrainingSet:
        raise TrainingError(
            "training.vision_feature_cache: augmentation shows an image otherwise on every visit; switch "
            "augmentation off, or set training.vision_feature_cache=null"
        )
    collator = CachedFeatureCollator(processor, max_length=settings.max_length)
    config = body.config.vision_config
    collator.feature_shape = ((config.image_size // config.patch_size) ** 2, config.hidden_size)
    collator.feature_dtype = next(p.dtype for p in body.vision_tower.parameters())
    if any(example.marked_box for example in training_set.examples):
        raise TrainingError(
            "training.vision_feature_cache: boxes are drawn into the images (task.mark), which the cache "
            "does not know of; set training.vision_feature_cache=null"
        )
    images = Collator(processor, resize_backend=settings.resize)
    folder = Path(str(settings.vision_feature_cache)) / _fingerprint(body.vision_tower, images)
    entries = FileCache(
        folder,
        collator.feature_shape[0] * collator.feature_shape[1] * collator.feature_dtype.itemsize,
    )
    paths = dict.fromkeys(path for example in training_set.examples for path in example.images)
    for path in track(paths, description="looking up images", transient=True):
        collator.feature_files[path] = entries.path_for(path)
    _compute_missing_features(body, images, collator, entries, settings.micro_batch_size)
    return collator


def check_vision_frozen(network: Any) -> None:
    """Raise TrainingError where the tower's output will not stay what it is."""
    if any(weight.requires_grad for weight in _prefix_model(network).vision_tower.parameters()):
        raise TrainingError(
            "training.vision_feature_cache: the vision tower is trained, so its output changes with every "
            "step; leave vision out of what the adapter trains, or set training.vision_feature_cache=null"
        )


def _prefix_model(network: Any) -> PaliGemmaPrefixModel:
    return next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))


def _compute_missing_features(
    prefix_model: PaliGemmaPrefixModel,
    image_collator: Collator,
    feature_collator: CachedFeatureCollator,
    file_cache: FileCache,
    batch_size: int,
) -> None:
    """Make the entries that are missing, broken or cut off."""
    wanted = {
        file: path
        for path, file in feature_collator.feature_files.items()
        if file_cache.read(file) is None
    }
    needed, free = file_cache.required_and_free(len(wanted))
    rich.print(
        f"vision cache: {len(set(feature_collator.feature_files.values()))} images of {format_bytes(file_cache.entry_size)} each; "
        f"{len(wanted)} to be made, {format_bytes(needed)} in {file_cache.folder} ({format_bytes(free)} free)"
    )
    if needed > free:
        raise TrainingError(
            f"training.vision_feature_cache: {format_bytes(needed)} are needed in {file_cache.folder} and "
            f"{format_bytes(free)} are free; name a folder on another disk, or set it to null"
        )
    # Processes side by side begin at different places and leave out what another has made.
    rank, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    turned = list(wanted)[rank * len(wanted) // processes :]
    turned += list(wanted)[: rank * len(wanted) // processes]
    starts = range(0, len(turned), batch_size)
    for start in track(starts, description="vision cache", transient=True):
        missing = [
            file for file in turned[start : start + batch_size] if file_cache.read(file) is None
        ]
        if missing:
            pixels = torch.stack(
                [image_collator.load_pixels(wanted[file], IDENTITY_TRANSFORM) for file in missing]
            )
            with torch.no_grad():
                features = prefix_model.get_image_features(
                    pixels.to(prefix_model.device)
                ).last_hidden_state
            for file, made in zip(
                missing, features.to(feature_collator.feature_dtype).cpu(), strict=True
            ):
                file_cache.write(file, made.contiguous().view(torch.uint8).numpy())


def _fingerprint(tower: torch.nn.Module, image_collator: Collator) -> str:
    """Name all that an entry depends on besides the image."""
    resize = f"{image_collator.image_size} {int(image_collator.resample)} {image_collator.resize_backend.value}"
    told = hashlib.sha256(resize.encode())
    for name, weight in sorted(tower.state_dict().items()):
        told.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        told.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return told.hexdigest()[:16]
