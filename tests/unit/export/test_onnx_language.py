"""ONNX Runtime writes what the model writes."""

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

TOKENS = 8


def greedily(folder: Path, batch: Mapping[str, torch.Tensor]) -> tuple[Any, Any]:
    """Tokens (rows, TOKENS) and their logits (TOKENS, rows, vocabulary)."""
    told = {name: tensor.numpy() for name, tensor in batch.items()}
    vision, language = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("vision", "language")
    )
    (features,) = vision.run(None, {"pixel_values": told.pop("pixel_values")})
    told["image_features"] = features.reshape(-1, features.shape[-1])
    empty = {"rows": len(batch["input_ids"]), "past": 0}
    kept = [one for one in language.get_inputs() if one.name.startswith("past.")]
    past = {
        one.name: np.zeros(
            [empty.get(size, size) for size in one.shape],
            np.int64 if one.type == "tensor(int64)" else np.float32,
        )
        for one in kept
    }
    one = np.ones((empty["rows"], 1), np.int64)
    tokens, logits = [], []
    for _ in range(TOKENS):
        found, *present = language.run(None, told | past)
        logits.append(found)
        tokens.append(found.argmax(-1))
        past = dict(zip(past, present, strict=True))
        told = {"input_ids": tokens[-1][:, None], "attention_mask": one, "token_type_ids": one}
        told["image_features"] = features.reshape(-1, features.shape[-1])[:0]
    return np.stack(tokens, 1), np.stack(logits)


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
def test_greedy_answers_to_padded_prompts_are_ours_and_logits_transformers(
    family: str, examples: list[Example], tmp_path: Path
) -> None:
    # The window is shorter than the prompts, as at 896 pixels.
    build_tiny(tmp_path, family, sliding_window=32)
    folder = export_onnx(tmp_path)
    model = Local(path=str(tmp_path), final_logit_softcapping=family == "paligemma2")
    processor = load_processor(model)
    prompts = Collator(processor).collate_prompts(examples[:3])
    assert not prompts["attention_mask"].all()
    written = generate(load(model), processor.tokenizer, prompts, TOKENS)
    batch = prompts | {"pixel_values": normalize_pixels(prompts["pixel_values"])}
    tokens, logits = greedily(folder, batch)
    assert [
        row[: len(one.token_ids)].tolist() for row, one in zip(tokens, written, strict=True)
    ] == [list(one.token_ids) for one in written]
    plain = load_with_transformers(tmp_path, attn_implementation="eager")
    with torch.no_grad():
        first = plain(**batch).logits[:, -1]
    np.testing.assert_allclose(logits[0], first.numpy(), atol=1e-4)
