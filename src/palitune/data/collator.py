"""Collator: tokenizes examples, loads their images and pads them to batches.

A row is `<image> * N  <bos> prefix \\n | suffix <eos>`. Prefix, newline and suffix are tokenized
separately, as in big_vision, so that the newline never merges with its neighbors. Training rows
are padded on the right, because positions count from the left; prompts are padded on the left,
because generation continues on the right.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from palitune.codec.text_tokens import TextTokenizer
from palitune.data.images.io import EncodedImage, decode_image, to_rgb
from palitune.data.images.resize import ResizeBackend
from palitune.data.images.resized_cache import ResizedImageCache
from palitune.data.images.transforms import (
    IDENTITY_TRANSFORM,
    ImageTransform,
    crop_with_padding,
)
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.models.lm_head import IGNORE_INDEX
from palitune.records import Box, Example, Size, Tile

Batch = dict[str, torch.Tensor]
"""Tensors of a batch:

- input_ids, attention_mask: (batch, tokens) int64.
- token_type_ids: (batch, tokens) int64, 0 on image and prefix, k on the k-th suffix.
- labels: (batch, tokens) int64, -100 where no loss is taken; training only.
- pixel_values: (images, 3, height, width) uint8, the images of all rows in order.
- image_index: (images of all rows,) int64, positions in pixel_values. Only if an image occurs
  several times in the batch; pixel_values then has each image once."""

_TokenBatch = dict[str, np.ndarray]
"""A batch without images; numpy is faster than torch for writing single rows."""

SMALL_IMAGE_PIXELS, MAX_CACHED_IMAGES = 128 * 128, 4096
"""Largest image that is cached after decoding, in pixels, and the number of cached images: 64 to
256 MiB in total."""


class Collator:
    """Makes batches of examples; runs in the workers of the data loader.

    Args:
        processor: Processor of the model, for its tokenizer and image size.
        max_length: Maximum tokens of a training row; None: unlimited.
        resize_backend: Library that resizes images.
        image_cache: Folder of the cache of resized images; None: no cache.
    """

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int | None = None,
        resize_backend: ResizeBackend = ResizeBackend.exact,
        image_cache: str | None = None,
    ) -> None:
        self.tokenizer = processor.tokenizer
        self.text_tokenizer = TextTokenizer(processor.tokenizer)
        self.max_length = max_length
        self.resize_backend = resize_backend
        size = processor.image_processor.size
        self.image_size = (size["width"], size["height"])
        self.resample = Image.Resampling(processor.image_processor.resample)
        self.image_cache: ResizedImageCache | None = None
        if image_cache is not None:
            self.image_cache = ResizedImageCache(
                image_cache, self.image_size, self.resample, resize_backend
            )
        self._decoded_images: dict[str, Image.Image] = {}
        self._last_cut_image: tuple[str, Image.Image] | None = None
        """Image of the last tile, because the tiles of an image often follow each other."""
        self.tokens_per_image: int = processor.image_seq_length
        self.image_token_id: int = processor.image_token_id
        [self.newline_token_id] = self._tokenize(["\n"])

    def collate_train(self, samples: Sequence[TrainingSample]) -> Batch:
        """Return right-padded rows with labels on suffix and EOS.

        Raises DataError for a row longer than `max_length`; suffixes are never truncated.
        """
        prompts = self._prompt_token_ids([sample.example for sample in samples])
        suffixes = [suffix for sample in samples for suffix in sample.suffixes]
        token_ids = iter(self._target_token_ids(suffixes))
        targets = [list(islice(token_ids, len(sample.suffixes))) for sample in samples]
        labels = [
            self._target_labels(sample, ids) for sample, ids in zip(samples, targets, strict=True)
        ]
        lengths = [len(p) + sum(map(len, t)) for p, t in zip(prompts, targets, strict=True)]
        for sample, length in zip(samples, lengths, strict=True):
            self._check_length(sample.example, length)
        batch = self._empty_batch(len(samples), max(lengths))
        batch["labels"] = np.full_like(batch["input_ids"], IGNORE_INDEX)
        for row, prompt in enumerate(prompts):
            end = len(prompt)
            batch["input_ids"][row, :end] = prompt
            pairs = zip(targets[row], labels[row], strict=True)
            for number, (target, target_labels) in enumerate(pairs, start=1):
                span = slice(end, end := end + len(target))
                batch["input_ids"][row, span] = target
                batch["labels"][row, span] = target_labels
                batch["token_type_ids"][row, span] = number
            batch["attention_mask"][row, :end] = 1
        return self._add_images(batch, [(sample.example, sample.transforms) for sample in samples])

    def collate_prompts(
        self, examples: Sequence[Example], transforms: Sequence[tuple[ImageTransform, ...]] = ()
    ) -> Batch:
        """Return left-padded prompts without suffix, for generation.

        Args:
            examples: The examples.
            transforms: For each example a transform per image; empty: no image is transformed.
        """
        prompts = self._prompt_token_ids(examples)
        batch = self._empty_batch(len(examples), max(map(len, prompts)))
        for row, prompt in enumerate(prompts):
            batch["input_ids"][row, -len(prompt) :] = prompt
            batch["attention_mask"][row, -len(prompt) :] = 1
        pairs = zip(examples, transforms or [()] * len(examples), strict=True)
        return self._add_images(batch, list(pairs))

    def num_tokens(self, example: Example, *, all_suffixes: bool = False) -> int:
        """Count the tokens of an example with its longest suffix, or with all suffixes in one row,
        including image tokens and EOS.
        """
        return self.count_tokens([example], all_suffixes=all_suffixes)[0]

    def count_tokens(self, examples: Sequence[Example], *, all_suffixes: bool = False) -> list[int]:
        """Count the tokens of several examples as `num_tokens` does; one call is faster."""
        prompts = self._prompt_token_ids(examples)
        suffixes = [suffix for example in examples for suffix in example.suffixes]
        lengths = iter([count + 1 for count in self.text_tokenizer.count(suffixes)])  # with EOS
        combine = sum if all_suffixes else max
        return [
            len(prompt) + combine(islice(lengths, len(example.suffixes)))
            for prompt, example in zip(prompts, examples, strict=True)
        ]

    def describe_image_tokens(self, example: Example) -> str:
        """Describe how many of an example's tokens are image tokens."""
        count = len(example.images)
        images = "its image" if count == 1 else f"its {count} images"
        return f"{count * self.tokens_per_image} of them for {images}"

    def load_pixels(
        self, path: str, transform: ImageTransform, tile: Tile | None = None
    ) -> torch.Tensor:
        """Return the upright, transformed and resized image: (3, height, width) uint8, RGB.

        Args:
            path: Image file.
            transform: Transform of the image, or of the tile.
            tile: Part of the image; None: the whole image.
        """
        create = partial(self._transformed_pixels, path, transform, tile)
        pixels = (
            self.image_cache.get_or_create(path, create, tile)
            if self.image_cache and transform == IDENTITY_TRANSFORM
            else create()
        )
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _transformed_pixels(
        self, path: str, transform: ImageTransform, tile: Tile | None
    ) -> np.ndarray:
        image = self._load_decoded(path) if tile is None else self._load_tile(path, tile)
        return np.array(
            to_rgb(transform.apply(image, self.image_size, self.resample, self.resize_backend))
        )

    def _load_tile(self, path: str, tile: Tile) -> Image.Image:
        """Decode an image unless it is that of the last tile, and cut a tile out of it."""
        if self._last_cut_image is None or self._last_cut_image[0] != path:
            self._last_cut_image = path, self._load_decoded(path)
        return crop_with_padding(self._last_cut_image[1], tile)

    def _load_decoded(self, path: str) -> Image.Image:
        """Decode an image and cache it if it is small: opening the file then takes longest."""
        if (cached := self._decoded_images.get(path)) is not None:
            return cached
        image = decode_image(path)
        if (
            not isinstance(path, EncodedImage)
            and image.width * image.height <= SMALL_IMAGE_PIXELS
            and len(self._decoded_images) < MAX_CACHED_IMAGES
        ):
            self._decoded_images[path] = image
        return image

    def _prompt_token_ids(self, examples: Sequence[Example]) -> list[list[int]]:
        bos: int = self.tokenizer.bos_token_id
        prefixes = self._tokenize([example.prefix for example in examples])
        counts = [self.tokens_per_image * len(example.images) for example in examples]
        return [
            [*[self.image_token_id] * count, bos, *ids, *self.newline_token_id]
            for count, ids in zip(counts, prefixes, strict=True)
        ]

    def _target_token_ids(self, suffixes: Sequence[str]) -> list[list[int]]:
        return [[*ids, self.tokenizer.eos_token_id] for ids in self._tokenize(suffixes)]

    def _target_labels(self, sample: TrainingSample, targets: list[list[int]]) -> list[list[int]]:
        """Return the labels of each target, IGNORE_INDEX in spans without loss."""
        if not (spans := sample.example.no_loss_spans):
            return targets
        ignored = [
            any(start <= first and last <= end for start, end in spans)
            for first, last in self.text_tokenizer.offsets(sample.suffix)
        ]
        [target] = targets
        pairs = zip(target, [*ignored, False], strict=True)  # EOS has a loss
        return [[IGNORE_INDEX if ignore else token for token, ignore in pairs]]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts separately; control tokens in them are plain characters."""
        return self.text_tokenizer.encode(texts)

    def _check_length(self, example: Example, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise DataError(
                f"{example.location}: the example has {length} tokens "
                f"({self.describe_image_tokens(example)}), and training.max_length is "
                f"{self.max_length}; raise it or shorten the row"
            )

    def _empty_batch(self, rows: int, width: int) -> _TokenBatch:
        padding = np.full((rows, width), self.tokenizer.pad_token_id, np.int64)
        zeros = np.zeros_like(padding)
        return {"input_ids": padding, "attention_mask": zeros, "token_type_ids": zeros.copy()}

    def _add_images(
        self,
        tokens: _TokenBatch,
        examples_with_transforms: Sequence[tuple[Example, Sequence[ImageTransform]]],
    ) -> Batch:
        """Load the images of all rows, equal ones once."""
        batch = {name: torch.from_numpy(array) for name, array in tokens.items()}
        loaded: dict[Hashable, torch.Tensor] = {}
        keys: list[Hashable] = []
        for example, transforms in examples_with_transforms:
            for number, path in enumerate(example.images):
                transform = transforms[number] if transforms else IDENTITY_TRANSFORM
                box = example.marked_box if number == 0 else None
                key = path, transform, example.tile, box and (box, example.size)
                keys.append(key)
                if key in loaded:
                    continue
                try:
                    loaded[key] = self.load_pixels(path, transform, example.tile)
                except DataError as error:
                    raise DataError(f"{example.location}: {error}") from error
                if box:
                    draw_box(loaded[key], box, example.size)
        if len(loaded) < len(keys):
            index = {key: number for number, key in enumerate(loaded)}
            batch["image_index"] = torch.tensor([index[key] for key in keys])
        batch["pixel_values"] = torch.stack(list(loaded.values()))
        return batch


def expand_image_index(batch: Batch) -> Batch:
    """Repeat shared images, so that pixel_values has the images of all rows in order."""
    order = batch.pop("image_index", None)
    return batch if order is None else batch | {"pixel_values": batch["pixel_values"][order]}


def draw_box(pixels: torch.Tensor, box: Box, size: Size) -> None:
    """Draw a red box outline of one pixel into a resized image.

    It equals TensorFlow's `draw_bounding_boxes`, which PaliGemma's WidgetCap transfer uses.

    Args:
        pixels: (3, height, width) uint8, changed in place.
        box: x0, y0, x1, y1 in pixels of the original image.
        size: (width, height) of the original image.
    """
    _, height, width = pixels.shape
    columns = [int(box[corner] / size[0] * (width - 1)) for corner in (0, 2)]
    rows = [int(box[corner] / size[1] * (height - 1)) for corner in (1, 3)]
    red = torch.tensor([255, 0, 0], dtype=pixels.dtype)[:, None]
    for row in rows:
        pixels[:, row, columns[0] : columns[1] + 1] = red
    for column in columns:
        pixels[:, rows[0] : rows[1] + 1, column] = red
