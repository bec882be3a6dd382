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

from palitune.data.image_store import ImageStore
from palitune.data.images import decode, in_rgb
from palitune.data.pixels import Images
from palitune.data.views import PLAIN, View
from palitune.data.visits import Visit
from palitune.examples import Box, DataError, Example, Size

Batch = dict[str, torch.Tensor]
"""input_ids, attention_mask, token_type_ids: (batch, tokens) int64; labels likewise, -100 where no
loss is taken; pixel_values: (images, 3, height, width) uint8, the images of all rows in order. Of a
batch in which images occur more than once, pixel_values holds each once, and image_index: (images
of all rows,) int64 says in order which of them is meant. token_type_ids are 0 on image and
prefix, 1 on the suffix, and k on the k-th where a row has several."""

_Tokens = dict[str, np.ndarray]
"""A batch without images, while it is written: numpy is quicker at single rows."""

IGNORED = -100

SMALL, MOST_SMALL = 128 * 128, 4096
"""Pixels of an image that is kept decoded, and how many are: 64 to 256 MiB at most."""


class Collator:
    """Tokenizes and pads, and loads images; runs inside the data loader's workers."""

    def __init__(
        self,
        processor: Any,
        *,
        max_length: int | None = None,
        images: Images = Images.exact,
        image_store: str | None = None,
    ) -> None:
        self.tokenizer = processor.tokenizer
        self.max_length = max_length
        self.images = images
        size = processor.image_processor.size
        self.image_size = (size["width"], size["height"])
        self.resample = Image.Resampling(processor.image_processor.resample)
        self.store: ImageStore | None = None
        if image_store is not None:
            self.store = ImageStore(image_store, self.image_size, self.resample, images)
        self._small: dict[str, Image.Image] = {}
        self.tokens_per_image: int = processor.image_seq_length
        self.image_token: int = processor.image_token_id
        [self.newline] = self._ids(["\n"])

    def train(self, visits: Sequence[Visit]) -> Batch:
        """Right-padded rows with labels on suffix and EOS.

        Raises DataError for a row longer than `max_length`: a suffix is never cut.
        """
        prompts = self._prompts([visit.example for visit in visits])
        told = iter(self._targets([suffix for visit in visits for suffix in visit.suffixes]))
        targets = [list(islice(told, len(visit.suffixes))) for visit in visits]
        learned = [self._learned(visit, own) for visit, own in zip(visits, targets, strict=True)]
        lengths = [len(p) + sum(map(len, t)) for p, t in zip(prompts, targets, strict=True)]
        for visit, length in zip(visits, lengths, strict=True):
            self._check_length(visit.example, length)
        batch = self._blank(len(visits), max(lengths))
        batch["labels"] = np.full_like(batch["input_ids"], IGNORED)
        for row, (prompt, suffixes) in enumerate(zip(prompts, targets, strict=True)):
            end = len(prompt)
            batch["input_ids"][row, :end] = prompt
            for number, target in enumerate(suffixes, start=1):
                place = slice(end, end := end + len(target))
                batch["input_ids"][row, place] = target
                batch["labels"][row, place] = learned[row][number - 1]
                batch["token_type_ids"][row, place] = number
            batch["attention_mask"][row, :end] = 1
        return self._with_images(batch, [(visit.example, visit.views) for visit in visits])

    def prompt(self, examples: Sequence[Example], views: Sequence[tuple[View, ...]] = ()) -> Batch:
        """Left-padded prompts without suffix, for generation.

        `views`: of the images of each example; empty: all are seen as they are.
        """
        prompts = self._prompts(examples)
        batch = self._blank(len(examples), max(map(len, prompts)))
        for row, prompt in enumerate(prompts):
            batch["input_ids"][row, -len(prompt) :] = prompt
            batch["attention_mask"][row, -len(prompt) :] = 1
        looks = zip(examples, views or [()] * len(examples), strict=True)
        return self._with_images(batch, list(looks))

    def length(self, example: Example, *, together: bool = False) -> int:
        """Tokens of the example with its longest suffix, or with all of them together; image tokens
        and EOS included.
        """
        [prompt] = self._prompts([example])
        lengths = [len(target) for target in self._targets(example.suffixes)]
        return len(prompt) + (sum(lengths) if together else max(lengths))

    def told_images(self, example: Example) -> str:
        """Say how many of an example's tokens are of images."""
        count = len(example.images)
        of_them = "image" if count == 1 else f"{count} images"
        return f"{count * self.tokens_per_image} of them of its {of_them}"

    def pixels(self, path: str, view: View) -> torch.Tensor:
        """(3, height, width) uint8: upright, RGB, what is seen of it resized to the square."""
        made = partial(self._made, path, view)
        pixels = self.store.pixels(path, made) if self.store and view == PLAIN else made()
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _made(self, path: str, view: View) -> np.ndarray:
        seen = view.picture(self._decoded(path), self.image_size, self.resample, self.images)
        return np.array(in_rgb(seen))

    def _decoded(self, path: str) -> Image.Image:
        """Decode an image, and keep it if it is small: opening its file takes longer then."""
        if (kept := self._small.get(path)) is not None:
            return kept
        image = decode(path)
        if image.width * image.height <= SMALL and len(self._small) < MOST_SMALL:
            self._small[path] = image
        return image

    def _prompts(self, examples: Sequence[Example]) -> list[list[int]]:
        bos: int = self.tokenizer.bos_token_id
        told = self._ids([example.prefix for example in examples])
        images = [self.tokens_per_image * len(example.images) for example in examples]
        return [
            [*[self.image_token] * count, bos, *ids, *self.newline]
            for count, ids in zip(images, told, strict=True)
        ]

    def _targets(self, suffixes: Sequence[str]) -> list[list[int]]:
        return [[*ids, self.tokenizer.eos_token_id] for ids in self._ids(suffixes)]

    def _learned(self, visit: Visit, targets: list[list[int]]) -> list[list[int]]:
        """The labels of each target: IGNORED where the example is silent."""
        if not (silent := visit.example.silent):
            return targets
        told = self.tokenizer(visit.suffix, add_special_tokens=False, return_offsets_mapping=True)
        hidden = [
            any(start <= first and last <= end for start, end in silent)
            for first, last in told["offset_mapping"]
        ]
        [target] = targets
        return [[IGNORED if out else t for t, out in zip(target, [*hidden, False], strict=True)]]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts, each on its own: many in one call take little longer than one."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _check_length(self, example: Example, length: int) -> None:
        if self.max_length is not None and length > self.max_length:
            raise DataError(
                f"{example.place}: the example has {length} tokens ({self.told_images(example)}) "
                f"and training.max_length is {self.max_length}; raise it or shorten the row"
            )

    def _blank(self, rows: int, width: int) -> _Tokens:
        padding = np.full((rows, width), self.tokenizer.pad_token_id, np.int64)
        zeros = np.zeros_like(padding)
        return {"input_ids": padding, "attention_mask": zeros, "token_type_ids": zeros.copy()}

    def _with_images(
        self, tokens: _Tokens, looks: Sequence[tuple[Example, Sequence[View]]]
    ) -> Batch:
        """Load the images, equal ones once."""
        batch = {name: torch.from_numpy(array) for name, array in tokens.items()}
        loaded: dict[Hashable, torch.Tensor] = {}
        wanted: list[Hashable] = []
        for example, views in looks:
            for number, path in enumerate(example.images):
                view = views[number] if views else PLAIN
                marked = (example.marked, example.size) if example.marked and not number else None
                key = path, view, marked
                wanted.append(key)
                if key in loaded:
                    continue
                try:
                    loaded[key] = self.pixels(path, view)
                except DataError as fault:
                    raise DataError(f"{example.place}: {fault}") from fault
                if marked:
                    outline(loaded[key], *marked)
        if len(loaded) < len(wanted):
            order = list(loaded)
            batch["image_index"] = torch.tensor([order.index(key) for key in wanted])
            wanted = order
        batch["pixel_values"] = torch.stack([loaded[key] for key in wanted])
        return batch


def with_own_images(batch: Batch) -> Batch:
    """Give every row images of its own, as whoever does not know `image_index` takes them."""
    order = batch.pop("image_index", None)
    return batch if order is None else batch | {"pixel_values": batch["pixel_values"][order]}


def outline(pixels: torch.Tensor, box: Box, size: Size) -> None:
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
