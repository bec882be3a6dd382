"""ONNX Runtime generates the same tokens as the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from palitune.data.collator import Collator
from palitune.export.export_model import export_onnx
from palitune.models.adapters.merging import load_with_transformers
from palitune.models.config import Local
from palitune.models.generation.generate import generate
from palitune.models.loading import load, load_processor
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example

from support.tiny_models import build_tiny

NUM_TOKENS = 8


def generate_with_onnx(folder: Path, batch: Mapping[str, torch.Tensor]) -> tuple[Any, Any]:
    """Tokens (rows, NUM_TOKENS) and their logits (NUM_TOKENS, rows, vocabulary)."""
    inputs = {name: tensor.numpy() for name, tensor in batch.items()}
    vision, language = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("vision", "language")
    )
    (features,) = vision.run(None, {"pixel_values": inputs.pop("pixel_values")})
    inputs["image_features"] = features.reshape(-1, features.shape[-1])
    empty = {"rows": len(batch["input_ids"]), "past": 0}
    cached = [node for node in language.get_inputs() if node.name.startswith("past.")]
    past = {
        node.name: np.zeros(
            [empty.get(size, size) for size in node.shape],
            np.int64 if node.type == "tensor(int64)" else np.float32,
        )
        for node in cached
    }
    ones = np.ones((empty["rows"], 1), np.int64)
    tokens, logits = [], []
    for _ in range(NUM_TOKENS):
        next_logits, *present = language.run(None, inputs | past)
        logits.append(next_logits)
        tokens.append(next_logits.argmax(-1))
        past = dict(zip(past, present, strict=True))
        new_ids = tokens[-1][:, None]
        inputs = {"input_ids": new_ids, "attention_mask": ones, "token_type_ids": ones}
        inputs["image_features"] = features.reshape(-1, features.shape[-1])[:0]
    return np.stack(tokens, 1), np.stack(logits)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_greedy_tokens_equal_palitune_and_logits_equal_transformers(
    family: str, examples: list[Example], tmp_path: Path
) -> None:
    # The window is shorter than the prompts, as at 896 pixels.
    build_tiny(tmp_path, family, sliding_window=32)
    folder = export_onnx(tmp_path)
    model = Local(path=str(tmp_path), final_logit_softcapping=family == "paligemma2")
    processor = load_processor(model)
    prompts = Collator(processor).collate_prompts(examples[:3])
    assert not prompts["attention_mask"].all()
    generations = generate(load(model), processor.tokenizer, prompts, NUM_TOKENS)
    batch = prompts | {"pixel_values": normalize_pixels(prompts["pixel_values"])}
    tokens, logits = generate_with_onnx(folder, batch)
    assert [
        row[: len(generation.token_ids)].tolist()
        for row, generation in zip(tokens, generations, strict=True)
    ] == [list(generation.token_ids) for generation in generations]
    plain = load_with_transformers(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        first_logits = plain(**batch).logits[:, -1]
    np.testing.assert_allclose(logits[0], first_logits.numpy(), atol=1e-4)
