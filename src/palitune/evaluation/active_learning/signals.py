"""Signals for the ranking of unlabeled images: vision features, and margins to the base model."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palitune.data.images.transforms import IDENTITY_TRANSFORM
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import make_collator, make_progress, split_batches
from palitune.evaluation.perplexity import reference_batches, reference_likelihoods
from palitune.records import Example, Prediction

if TYPE_CHECKING:
    from palitune.evaluation.active_learning.ranking import Vectors


def vision_features(
    network: Any, processor: Any, examples: Sequence[Example], settings: EvaluationConfig
) -> "Vectors":
    """Return the mean of the patch features of the first image of each example, of length 1.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        examples: Examples with readable images.
        settings: Evaluation settings.

    Returns:
        (examples, dimensions) float32.
    """
    import numpy as np
    import torch

    from palitune.models.modes import inference_mode
    from palitune.models.paligemma import PaliGemmaPrefixModel

    body = next(part for part in network.modules() if isinstance(part, PaliGemmaPrefixModel))
    collator = make_collator(processor, settings)
    rows = []
    for batch in _tracked(len(examples), settings.batch_size, "vision features"):
        paths = [examples[index].images[0] for index in batch]
        pixels = torch.stack([collator.load_pixels(p, IDENTITY_TRANSFORM) for p in paths])
        with inference_mode(network):
            patches = body.get_image_features(pixels.to(body.device)).last_hidden_state
        rows.append(patches.float().mean(dim=1).cpu().numpy())
    features = np.concatenate(rows).astype(np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    normalized: Vectors = features / np.maximum(norms, 1e-12)
    return normalized


def answer_margins(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    predictions: Sequence[Prediction],
    settings: EvaluationConfig,
) -> list[float | None]:
    """Return the log-likelihood per token of each generated text, adapter minus base.

    A small margin means that training has changed little for this image.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        examples: The examples.
        predictions: The prediction for each example.
        settings: Evaluation settings.

    Returns:
        None for every example without an adapter.
    """
    if not hasattr(network, "disable_adapter"):
        return [None] * len(examples)
    collator = make_collator(processor, settings)
    pairs = zip(examples, predictions, strict=True)
    answered = [replace(example, suffixes=(prediction.text,)) for example, prediction in pairs]
    margins: list[float | None] = []
    for batch in _tracked(len(examples), settings.batch_size, "margins"):
        part = [answered[index] for index in batch]
        batches = reference_batches(collator, part)
        per_token = []
        for mode in (nullcontext(), network.disable_adapter()):
            with mode:
                likelihoods = reference_likelihoods(network, part, batches)
            per_token.append([value.log_prob / value.num_tokens for value in likelihoods])
        margins += [after - before for after, before in zip(*per_token, strict=True)]
    return margins


def _tracked(count: int, batch_size: int, title: str) -> Iterable[list[int]]:
    """Yield batches of indices with a progress bar."""
    with make_progress() as progress:
        task_id = progress.add_task(title, total=count)
        for batch in split_batches(count, batch_size):
            yield batch
            progress.advance(task_id, len(batch))
