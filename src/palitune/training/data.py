"""Training set and collator of a run, built once for the self-check and for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import ConcatDataset, TaskDataset
from palitune.data.images.augmentation import Augmentation
from palitune.data.training_set import TrainingSample, TrainingSet, build_training_set
from palitune.models.label_layout import LabelLayout
from palitune.training.config import LossReduction, TrainingConfig
from palitune.training.loss import count_items, token_weights


@dataclass(frozen=True)
class TrainingData:
    training_set: TrainingSet
    collator: Collator
    datasets: Sequence[TaskDataset] = ()
    """Components of the training set."""


class TrainingCollator:
    """Adds to the batches of a collator everything that depends on labels only.

    It is computed in the workers of the data loader, so that a training step on a GPU does not wait
    for a value, such as the number of labels:

    - label_layout: `LabelLayout`, an input of the model.
    - label_weights: (labels,) float32 from `token_weights`.
    - num_items: int from `count_items`.
    """

    def __init__(self, collator: Collator, reduction: LossReduction) -> None:
        self.collator = collator
        self.reduction = reduction

    def __call__(self, samples: Sequence[TrainingSample]) -> dict[str, Any]:
        batch: Batch = self.collator.collate_train(samples)
        label_inputs = batch["labels"], self.reduction, batch["token_type_ids"]
        return {
            **batch,
            "label_layout": LabelLayout.from_batch(batch, self.collator.image_token_id),
            "label_weights": token_weights(*label_inputs),
            "num_items": count_items(*label_inputs),
        }


def build_training_data(
    processor: Any,
    datasets: list[TaskDataset],
    settings: TrainingConfig,
    augmentation: Augmentation,
    seed: int,
) -> TrainingData:
    """Build the training set and its collator.

    Args:
        processor: PaliGemma's processor.
        datasets: Components of the mixture, at least one.
        settings: Target sampling, maximum length, resizing and image cache.
        augmentation: Augmentation of the images.
        seed: Seed of target sampling, augmentation and, in training, of the order of examples.

    Raises:
        DataError: The disk has no space for the image cache.
    """
    training_set = build_training_set(
        ConcatDataset(datasets),
        settings.target_sampling,
        seed,
        augmentation,
        share_per_image=settings.prompts_per_image > 1,
    )
    collator = Collator(
        processor,
        max_length=settings.max_length,
        resize_backend=settings.resize,
        # With cached vision features no image is read twice.
        image_cache=None if settings.vision_feature_cache else settings.image_cache,
    )
    if collator.image_cache:
        collator.image_cache.check_disk_space(training_set.examples)
    return TrainingData(training_set, collator, datasets)
