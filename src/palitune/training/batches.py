"""Training batches with everything that depends on labels only.

It is computed in the workers of the data loader, so that a training step on a GPU never waits for
a value, such as the number of labels.
"""

from collections.abc import Sequence
from typing import Any

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.label_layout import LabelLayout
from palitune.training.config import LossReduction
from palitune.training.loss import count_items, token_weights


class TrainingCollator:
    """Adds to the batches of a collator:

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
