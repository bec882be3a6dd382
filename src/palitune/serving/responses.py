"""Predictions as JSON answers."""

import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from palitune.codec.text_tokens import TextTokenizer
from palitune.data.collator import Collator
from palitune.evaluation.answering import Question
from palitune.evaluation.object_quality.min_score import ScoreThresholds
from palitune.records import Instance, Prediction, Value, value_to_json
from palitune.serving.batching import Answer


def prediction_json(
    answer: Answer, question: Question, *, min_score: ScoreThresholds, masks: str
) -> dict[str, Any]:
    """Return the answer to `/v1/predict`.

    Args:
        answer: The answer.
        question: Its question.
        min_score: Objects with a lower score are left out.
        masks: "rle" or "png".
    """
    prediction = answer.prediction
    value = min_score.keep(prediction.value)
    return {
        "text": prediction.text,
        "task": question.task.name,
        "prompt": question.example.prefix,
        "value": _value_json(value, masks),
        "malformed": prediction.value is None,
        "finished": prediction.finished,
        "confidence": prediction.confidence,
        "size": list(question.example.size),
        **({"tiles": len(question.tiles.grid(question.example.size))} if question.tiles else {}),
        "timings": {
            "queue_ms": round(1000 * answer.queue_seconds, 1),
            "model_ms": round(1000 * answer.model_seconds, 1),
            "batch_size": answer.batch_size,
        },
    }


def num_prompt_tokens(question: Question, collator: Collator) -> int:
    """Count the tokens of a prompt with its images."""
    return collator.num_tokens(replace(question.example, suffixes=("",))) - 1  # without EOS


def num_tokens(prediction: Prediction, tokenizer: Any) -> int:
    """Count the tokens of an answer's text."""
    return len(TextTokenizer(tokenizer).encode([prediction.text])[0])


def _value_json(value: Value | None, masks: str) -> Any:
    if masks == "rle" or value is None or isinstance(value, str):
        return value_to_json(value)
    return [item if isinstance(item, str) else _png_instance(item) for item in value]


def _png_instance(instance: Instance) -> dict[str, Any]:
    [data] = value_to_json((replace(instance, mask=None),))
    if instance.mask is None:
        return dict(data)
    file = io.BytesIO()
    Image.fromarray(instance.mask.astype(np.uint8) * 255).save(file, "PNG")
    return dict(data) | {
        "mask": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    }
