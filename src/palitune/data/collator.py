"""Examples -> tensors: the only place that tokenizes.

One row is `<image> * N  <bos> prefix \\n | suffix <eos>`, with prefix, newline and suffix tokenized
each on its own, as big_vision does, so that a newline never merges with its neighbours. Training
rows are padded on the right, because positions count from the left; prompts are padded on the left,
because generation goes on at the right.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from palitune.data.images.io import decode_image, to_rgb
from palitune.data.images.resize import ResizeBackend
from palitune.data.images.resized_cache import ResizedImageCache
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ImageTransform
from palitune.data.training_set import TrainingSample
from palitune.errors import DataError
from palitune.models.lm_head import IGNORE_INDEX
from palitune.records import Box, Example, Size

Batch = dict[str, torch.Tensor]
"""input_ids, attention_mask, token_type_ids: (batch, tokens) int64; labels likewise, -100 where no
loss is taken; pixel_values: (images, 3, height, width) uint8, the images of all rows in order. Of a
batch in which images occur more than once, pixel_values holds each once, and image_index: (images
of all rows,) int64 says in order which of them is meant. token_type_ids are 0 on image and
prefix, 1 on the suffix, and k on the k-th where a row has several."""

_TokenBatch = dict[str, np.ndarray]
"""A batch without images, while it is written: numpy is quicker at single rows."""

SMALL_IMAGE_PIXELS, MAX_CACHED_IMAGES = 128 * 128, 4096
"""Pixels of an image that is kept decoded, and how many are: 64 to 256 MiB at most."""


class Collator:
    """Tokenizes and pads, and loads images; runs inside the data loader's workers."""

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int | None = None,
        resize_backend: ResizeBackend = ResizeBackend.exact,
        image_cache: str | None = None,
    ) -> None:
        self.tokenizer = processor.tokenizer
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
        self.tokens_per_image: int = processor.image_seq_length
        self.image_token_id: int = processor.image_token_id
        [self.newline_token_id] = self._tokenize(["\n"])

    def collate_train(self, samples: Sequence[TrainingSample]) -> Batch:
        """Right-padded rows with labels on suffix and EOS.

        Raises DataError for a row longer than `max_length`: a suffix is never cut.
        """
        prompts = self._prompt_token_ids([visit.example for visit in samples])
        told = iter(
            self._target_token_ids([suffix for visit in samples for suffix in visit.suffixes])
        )
        targets = [list(islice(told, len(visit.suffixes))) for visit in samples]
        learned = [
            self._target_labels(visit, own) for visit, own in zip(samples, targets, strict=True)
        ]
        lengths = [len(p) + sum(map(len, t)) for p, t in zip(prompts, targets, strict=True)]
        for visit, length in zip(samples, lengths, strict=True):
            self._check_length(visit.example, length)
        batch = self._empty_batch(len(samples), max(lengths))
        batch["labels"] = np.full_like(batch["input_ids"], IGNORE_INDEX)
        for row, (prompt, suffixes) in enumerate(zip(prompts, targets, strict=True)):
            end = len(prompt)
            batch["input_ids"][row, :end] = prompt
            for number, target in enumerate(suffixes, start=1):
                place = slice(end, end := end + len(target))
                batch["input_ids"][row, place] = target
                batch["labels"][row, place] = learned[row][number - 1]
                batch["token_type_ids"][row, place] = number
            batch["attention_mask"][row, :end] = 1
        return self._add_images(batch, [(visit.example, visit.transforms) for visit in samples])

    def collate_prompts(
        self, examples: Sequence[Example], transforms: Sequence[tuple[ImageTransform, ...]] = ()
    ) -> Batch:
        """Left-padded prompts without suffix, for generation.

        `views`: of the images of each example; empty: all are seen as they are.
        """
        prompts = self._prompt_token_ids(examples)
        batch = self._empty_batch(len(examples), max(map(len, prompts)))
        for row, prompt in enumerate(prompts):
            batch["input_ids"][row, -len(prompt) :] = prompt
            batch["attention_mask"][row, -len(prompt) :] = 1
        looks = zip(examples, transforms or [()] * len(examples), strict=True)
        return self._add_images(batch, list(looks))

    def num_tokens(self, example: Example, *, all_suffixes: bool = False) -> int:
        """Tokens of the example with its longest suffix, or with all of them together; image tokens
        and EOS included.
        """
        [prompt] = self._prompt_token_ids([example])
        lengths = [len(target) for target in self._target_token_ids(example.suffixes)]
        return len(prompt) + (sum(lengths) if all_suffixes else max(lengths))

    def describe_image_tokens(self, example: Example) -> str:
        """Say how many of an example's tokens are of images."""
        count = len(example.images)
        of_them = "image" if count == 1 else f"{count} images"
        return f"{count * self.tokens_per_image} of them of its {of_them}"

    def load_pixels(self, path: str, transform: ImageTransform) -> torch.Tensor:
        """(3, height, width) uint8: upright, RGB, what is seen of it resized to the square."""
        made = partial(self._transformed_pixels, path, transform)
        pixels = (
            self.image_cache.get_or_create(path, made)
            if self.image_cache and transform == IDENTITY_TRANSFORM
            else made()
        )
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _transformed_pixels(self, path: str, transform: ImageTransform) -> np.ndarray:
        seen = transform.apply(
            self._load_decoded(path), self.image_size, self.resample, self.resize_backend
        )
        return np.array(to_rgb(seen))

    def _load_decoded(self, path: str) -> Image.Image:
        """Decode an image, and keep it if it is small: opening its file takes longer then."""
        if (kept := self._decoded_images.get(path)) is not None:
            return kept
        image = decode_image(path)
        if (
            image.width * image.height <= SMALL_IMAGE_PIXELS
            and len(self._decoded_images) < MAX_CACHED_IMAGES
        ):
            self._decoded_images[path] = image
        return image

    def _prompt_token_ids(self, examples: Sequence[Example]) -> list[list[int]]:
        bos: int = self.tokenizer.bos_token_id
        told = self._tokenize([example.prefix for example in examples])
        images = [self.tokens_per_image * len(example.images) for example in examples]
        return [
            [*[self.image_token_id] * count, bos, *ids, *self.newline_token_id]
            for count, ids in zip(images, told, strict=True)
        ]

    def _target_token_ids(self, suffixes: Sequence[str]) -> list[list[int]]:
        return [[*ids, self.tokenizer.eos_token_id] for ids in self._tokenize(suffixes)]

    def _target_labels(self, sample: TrainingSample, targets: list[list[int]]) -> list[list[int]]:
        """The labels of each target: IGNORED where the example is silent."""
        if not (silent := sample.example.no_loss_spans):
            return targets
        told = self.tokenizer(sample.suffix, add_special_tokens=False, return_offsets_mapping=True)
        hidden = [
            any(start <= first and last <= end for start, end in silent)
            for first, last in told["offset_mapping"]
        ]
        [target] = targets
        return [
            [IGNORE_INDEX if out else t for t, out in zip(target, [*hidden, False], strict=True)]
        ]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts, each on its own: many in one call take little longer than one."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _check_length(self, example: Example, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise DataError(
                f"{example.location}: the example has {length} tokens ({self.describe_image_tokens(example)}) "
                f"and training.max_length is {self.max_length}; raise it or shorten the row"
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
        """Load the images, equal ones once."""
        batch = {name: torch.from_numpy(array) for name, array in tokens.items()}
        loaded: dict[Hashable, torch.Tensor] = {}
        wanted: list[Hashable] = []
        for example, views in examples_with_transforms:
            for number, path in enumerate(example.images):
                view = views[number] if views else IDENTITY_TRANSFORM
                marked = (
                    (example.marked_box, example.size)
                    if example.marked_box and not number
                    else None
                )
                key = path, view, marked
                wanted.append(key)
                if key in loaded:
                    continue
                try:
                    loaded[key] = self.load_pixels(path, view)
                except DataError as fault:
                    raise DataError(f"{example.location}: {fault}") from fault
                if marked:
                    draw_box(loaded[key], *marked)
        if len(loaded) < len(wanted):
            order = list(loaded)
            batch["image_index"] = torch.tensor([order.index(key) for key in wanted])
            wanted = order
        batch["pixel_values"] = torch.stack([loaded[key] for key in wanted])
        return batch


def expand_image_index(batch: Batch) -> Batch:
    """Give every row images of its own, as whoever does not know `image_index` takes them."""
    order = batch.pop("image_index", None)
    return batch if order is None else batch | {"pixel_values": batch["pixel_values"][order]}


def draw_box(pixels: torch.Tensor, box: Box, size: Size) -> None:
    """Draw a red line, one pixel wide, around a box of an image that had `size` before.

    pixels: (3, height, width) uint8, changed in place. As TensorFlow's `draw_bounding_boxes`, with
    which PaliGemma's WidgetCap transfer shows a widget.
    """
    _, height, width = pixels.shape
    columns = [int(box[corner] / size[0] * (width - 1)) for corner in (0, 2)]
    rows = [int(box[corner] / size[1] * (height - 1)) for corner in (1, 3)]
    red = torch.tensor([255, 0, 0], dtype=pixels.dtype)[:, None]
    for row in rows:
        pixels[:, row, columns[0] : columns[1] + 1] = red
    for column in columns:
        pixels[:, rows[0] : rows[1] + 1, column] = red
