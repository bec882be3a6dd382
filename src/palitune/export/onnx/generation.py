"""Greedy generation with ONNX Runtime, as transformers.js does it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palitune.data.collator import Collator
from palitune.export.onnx import session
from palitune.export.onnx.files import DECODER, EMBEDDINGS, VISION
from palitune.export.onnx.quantization import file_name
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example


class OnnxModel:
    """The three graphs of a folder.

    Args:
        folder: Folder of the graphs.
        dtypes: Dtype of each graph by its name.
        processor: Processor of the model.
        open_session: Opens a file; the result has the interface of ONNX Runtime's sessions.
    """

    def __init__(
        self,
        folder: Path,
        dtypes: Mapping[str, str],
        processor: Any,
        open_session: Callable[[Path], Any] = session.open_session,
    ) -> None:
        self.vision, self.embeddings, self.decoder = (
            open_session(folder / file_name(name, dtypes[name]))
            for name in (VISION, EMBEDDINGS, DECODER)
        )
        self.collator = Collator(processor)
        self.image_token_id: int = self.collator.image_token_id
        self.eos_token_id: int = self.collator.tokenizer.eos_token_id

    def generate(self, example: Example, max_new_tokens: int) -> list[int]:
        """Return the greedy tokens of an answer, with EOS if it was generated."""
        batch = self.collator.collate_prompts([example])
        pixels = normalize_pixels(batch["pixel_values"]).numpy()
        ids = batch["input_ids"].numpy()
        embedded = self._embed(ids)
        (features,) = self.vision.run(None, {"pixel_values": pixels})
        embedded[ids == self.image_token_id] = features.reshape(-1, features.shape[-1])
        past, length = self._empty_past(), ids.shape[1]
        positions = np.arange(1, length + 1)[None]
        tokens: list[int] = []
        while True:
            inputs = {
                "inputs_embeds": embedded,
                "attention_mask": np.ones((1, length), np.int64),
                "position_ids": positions,
            }
            logits, *present = self.decoder.run(None, inputs | past)
            tokens.append(int(logits[0, -1].argmax()))
            if len(tokens) == max_new_tokens or tokens[-1] == self.eos_token_id:
                return tokens
            past, length = dict(zip(past, present, strict=True)), length + 1
            positions = np.array([[length]])
            embedded = self._embed(np.array([tokens[-1:]]))

    def _embed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        (embedded,) = self.embeddings.run(None, {"input_ids": ids})
        result: NDArray[np.float32] = embedded
        return result

    def _empty_past(self) -> dict[str, NDArray[np.float32]]:
        sizes = {"batch_size": 1, "past_sequence_length": 0}
        return {
            node.name: np.zeros([sizes.get(size, size) for size in node.shape], np.float32)
            for node in self.decoder.get_inputs()
            if node.name.startswith("past_key_values.")
        }
