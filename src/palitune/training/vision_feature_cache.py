"""Cache of the outputs of the frozen vision tower, so that it runs once per training image.

An entry contains the tower's output before the projector: it is half the size of the projected
features, and valid if the projector is trained. Entries depend on the image, the weights and
precision of the tower, and the resizing.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from palitune.data.collator import Batch, Collator
from palitune.data.images.file_cache import FileCache, format_bytes
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ImageTransform
from palitune.data.training_set import TrainingSet
from palitune.distributed import collectives
from palitune.distributed.terminal import print_line
from palitune.errors import TrainingError
from palitune.models.paligemma import PaliGemmaPrefixModel
from palitune.records import Tile
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData


class CachedFeatureCollator(Collator):
    """A copy of a collator that loads cached vision features instead of pixels."""

    def __init__(self, collator: Collator, network: Any, cache: FileCache) -> None:
        vars(self).update(vars(collator))
        body = _prefix_model(network)
        self.cache = cache
        self.feature_shape = _feature_shape(body)
        self.feature_dtype = _feature_dtype(body)
        self.feature_files: dict[str, Path] = {}
        """Cache entry of each image, by the image's path."""

    def collate_train(self, samples: Any) -> Batch:
        batch = super().collate_train(samples)
        batch["vision_features"] = batch.pop("pixel_values")
        return batch

    def load_pixels(
        self, path: str, transform: ImageTransform, tile: Tile | None = None
    ) -> torch.Tensor:
        """Return the memory-mapped entry of an untransformed image, (patches, width)."""
        patches, width = self.feature_shape
        entry = str(self.feature_files[path])
        features = torch.from_file(
            entry, shared=False, size=patches * width, dtype=self.feature_dtype
        )
        return features.view(patches, width)


def build_cached_feature_collator(
    network: Any, data: TrainingData, settings: TrainingConfig
) -> CachedFeatureCollator:
    """Add missing and damaged entries to `settings.vision_feature_cache`; return its collator.

    Raises TrainingError if the output of the tower can change during training, or if the disk has
    too little space.
    """
    check_vision_frozen(network)
    if type(data.training_set) is not TrainingSet:
        raise TrainingError(
            "training.vision_feature_cache: augmentation changes the images in every epoch. Set "
            "augmentation=none or training.vision_feature_cache=null."
        )
    examples = data.training_set.examples
    if any(example.marked_box for example in examples):
        raise TrainingError(
            "training.vision_feature_cache does not support boxes drawn into the images. Set "
            "task.mark=false or training.vision_feature_cache=null."
        )
    if any(example.tile for example in examples):
        raise TrainingError(
            "training.vision_feature_cache does not support data.tiles. Set data.tiles=null or "
            "training.vision_feature_cache=null."
        )
    body = _prefix_model(network)
    patches, width = _feature_shape(body)
    cache = FileCache(
        Path(str(settings.vision_feature_cache)) / _fingerprint(body.vision_tower, data.collator),
        patches * width * _feature_dtype(body).itemsize,
    )
    collator = CachedFeatureCollator(data.collator, network, cache)
    paths = dict.fromkeys(path for example in examples for path in example.images)
    for path in track(paths, description="looking up images", transient=True):
        collator.feature_files[path] = cache.path_for(path)
    _write_missing_features(body, data.collator, collator, settings.micro_batch_size)
    return collator


def check_vision_frozen(network: Any) -> None:
    """Raise TrainingError if the vision tower is trained."""
    if any(weight.requires_grad for weight in _prefix_model(network).vision_tower.parameters()):
        raise TrainingError(
            "training.vision_feature_cache: the vision tower is trained, so that its outputs "
            "change. Remove vision from the trained parts, or set it to null."
        )


def _prefix_model(network: Any) -> PaliGemmaPrefixModel:
    return next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))


def _feature_shape(body: PaliGemmaPrefixModel) -> tuple[int, int]:
    config = body.config.vision_config
    return (config.image_size // config.patch_size) ** 2, config.hidden_size


def _feature_dtype(body: PaliGemmaPrefixModel) -> torch.dtype:
    dtype: torch.dtype = next(body.vision_tower.parameters()).dtype
    return dtype


def _write_missing_features(
    body: PaliGemmaPrefixModel,
    pixel_collator: Collator,
    feature_collator: CachedFeatureCollator,
    batch_size: int,
) -> None:
    """Compute missing, damaged and truncated entries, `batch_size` images at a time."""
    cache = feature_collator.cache
    images = {entry: path for path, entry in feature_collator.feature_files.items()}
    missing = [entry for entry in images if cache.read(entry) is None]
    _check_disk_space(cache, len(images), len(missing))
    # Each process starts at another image and skips entries that others have written meanwhile.
    first = collectives.rank() * len(missing) // collectives.world_size()
    missing = missing[first:] + missing[:first]
    starts = range(0, len(missing), batch_size)
    for start in track(starts, description="vision cache", transient=True):
        entries = [
            entry for entry in missing[start : start + batch_size] if cache.read(entry) is None
        ]
        if not entries:
            continue
        pixels = torch.stack(
            [pixel_collator.load_pixels(images[entry], IDENTITY_TRANSFORM) for entry in entries]
        )
        with torch.no_grad():
            features = body.get_image_features(pixels.to(body.device)).last_hidden_state
        features = features.to(feature_collator.feature_dtype).cpu()
        for entry, values in zip(entries, features, strict=True):
            cache.write(entry, values.contiguous().view(torch.uint8).numpy())


def _check_disk_space(cache: FileCache, num_images: int, num_missing: int) -> None:
    """Print the size of the cache; raise TrainingError if it does not fit on the disk."""
    required, free = cache.required_and_free(num_missing)
    print_line(
        f"vision cache: {num_images} images of {format_bytes(cache.entry_size)} each; "
        f"{num_missing} to be made, {format_bytes(required)} in {cache.folder} "
        f"({format_bytes(free)} free)"
    )
    if required > free:
        raise TrainingError(
            f"training.vision_feature_cache requires {format_bytes(required)} in {cache.folder}, "
            f"but {format_bytes(free)} are free. Set a folder on another disk, or null."
        )


def _fingerprint(tower: torch.nn.Module, collator: Collator) -> str:
    """Hash the resizing and the weights of the tower."""
    resize = f"{collator.image_size} {int(collator.resample)} {collator.resize_backend.value}"
    digest = hashlib.sha256(resize.encode())
    for name, weight in sorted(tower.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
