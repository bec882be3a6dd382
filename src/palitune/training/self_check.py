"""Self-check before training: special tokens, labels, attention mask, padding and adapter.

Every check uses the network, the collator and examples of the training itself. The mask is probed
with gradients: the derivative of a logit with respect to the embedding of a token is exactly zero
if the mask hides the token, in every precision and with quantized weights.
"""

from collections.abc import Sequence
from typing import Any

import torch

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TargetSampling, TrainingSample
from palitune.errors import SelfCheckError
from palitune.models.adapters.config import AdapterConfig, Qlora, module_group
from palitune.models.lm_head import IGNORE_INDEX, loss_positions
from palitune.models.loading import TORCH_DTYPES
from palitune.models.modes import training_mode
from palitune.training.activation_memory import (
    activation_offload_context,
    check_device,
    checkpointed_layers,
)
from palitune.training.arguments import gradient_accumulation_steps
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.sequence_lengths import check_lengths, evenly_spaced
from palitune.training.vision_feature_cache import check_vision_frozen

MAX_AUGMENTATION_PROBES = 200
"""Training samples examined to summarize the augmentation."""
MAX_PROBED_IMAGE_TOKENS = 128
"""Image tokens in the row whose gradients are computed, half of those of an image of 224 px."""
MAX_PROBED_PADDING = 8
MAX_COMPARED_LABELS = 8
"""Labels whose logits are compared with and without padding; one takes a megabyte."""
_TOKEN_KEYS = ("input_ids", "attention_mask", "token_type_ids")


def run_self_check(
    network: Any, data: TrainingData, settings: TrainingConfig, adapter: AdapterConfig
) -> list[str]:
    """Check the network and the data of a training; return one sentence per check.

    Args:
        network: Network with its adapter.
        data: Training set and collator of the training.
        settings: Settings of the training.
        adapter: Settings of the adapter.

    Raises:
        SelfCheckError: Mask, labels, tokens or adapter are wrong.
        TrainingError: The device or the adapter does not support the settings.
        DataError: Examples exceed the maximum length.
    """
    check_device(settings, network.device)
    gradient_accumulation_steps(settings)
    if settings.vision_feature_cache is not None:
        check_vision_frozen(network)
    training_set = data.training_set
    lengths, probes = check_lengths(
        data.collator,
        training_set.examples,
        settings.max_length,
        all_suffixes=settings.target_sampling is TargetSampling.all,
    )
    samples = [training_set[index] for index in probes]
    checks = run_checks(network, data.collator, samples, adapter, settings)
    augmented = evenly_spaced(len(training_set), MAX_AUGMENTATION_PROBES)
    warnings = [warning for dataset in data.datasets for warning in dataset.task.warnings()]
    return [
        lengths,
        *training_set.augmentation_summary(augmented),
        *checks,
        *dict.fromkeys(warnings),
    ]


def run_checks(
    network: Any,
    collator: Collator,
    samples: Sequence[TrainingSample],
    adapter: AdapterConfig,
    settings: TrainingConfig | None = None,
) -> list[str]:
    """Run all checks on a few samples of different lengths; return one sentence per check.

    The network needs less memory than in a training step with these settings: gradients are
    computed for one short row, whose activations are kept as in the training.

    Args:
        network: Network with its adapter.
        collator: Collator of the training.
        samples: Samples of the training.
        adapter: Settings of the adapter.
        settings: Settings of the training; None for the defaults.

    Raises:
        SelfCheckError: A check failed.
    """
    batch = collator.collate_train(samples)
    return [
        check_special_tokens(collator),
        check_labels(batch, collator, samples),
        check_token_type_ids(batch, samples),
        check_adapter(network, adapter),
        *check_mask(network, *_probe_row(batch, samples), settings),
        check_padding(network, collator, samples),
    ]


def check_special_tokens(collator: Collator) -> str:
    """Check that every `<loc>` and `<seg>` is one token, and that their ids are consecutive."""
    for kind, count, digits in (("loc", 1024, 4), ("seg", 128, 3)):
        texts = [f"<{kind}{index:0{digits}d}>" for index in range(count)]
        ids = collator.tokenizer(texts, add_special_tokens=False)["input_ids"]
        for text, pieces in zip(texts, ids, strict=True):
            _ensure(
                len(pieces) == 1,
                f"the tokenizer splits {text} into {len(pieces)} tokens; load the processor of a "
                "PaliGemma checkpoint, whose tokenizer has the location and segmentation tokens",
            )
        _ensure(
            [pieces[0] for pieces in ids] == list(range(ids[0][0], ids[0][0] + count)),
            f"the ids of the <{kind}> tokens are not consecutive; it is not PaliGemma's tokenizer",
        )
    return "tokens: 1024 <loc> and 128 <seg>, each a single id, in order"


def check_token_type_ids(batch: Batch, samples: Sequence[TrainingSample]) -> str:
    """Check `token_type_ids`: 0 up to the newline, the number of the suffix on it and its EOS."""
    _ensure(
        "token_type_ids" in batch,
        "the batch has no token_type_ids: depending on padding, suffix tokens could attend to "
        "later ones, or the prefix would be causal; build batches with palitune.data.collator",
    )
    types, real = batch["token_type_ids"], batch["attention_mask"].bool()
    labeled = _suffix_mask(batch, samples)
    _ensure(
        bool((types[labeled] > 0).all()),
        "token_type_ids are 0 on the suffix: its tokens would attend to later ones, which leaks "
        "the labels; the suffix needs type 1",
    )
    _ensure(
        bool((types[real & ~labeled] == 0).all()),
        "token_type_ids are 1 on the prefix: its attention would be causal, unlike PaliGemma's "
        "pre-training; image and prefix need type 0",
    )
    return "token types: 0 on image and prefix, 1 on suffix and EOS"


def _suffix_mask(batch: Batch, samples: Sequence[TrainingSample]) -> torch.Tensor:
    """Positions of suffixes, (batch, tokens) bool, derived from labels, not token_type_ids."""
    suffixes = batch["labels"] != IGNORE_INDEX
    for row, sample in enumerate(samples):
        if sample.example.no_loss_spans:  # `check_labels` compares the tokens without a label
            suffixes[row] |= batch["token_type_ids"][row] > 0
    return suffixes


def check_labels(batch: Batch, collator: Collator, samples: Sequence[TrainingSample]) -> str:
    """Check that the labels are suffix and EOS of every row, and nothing else."""
    suffixes = [
        (row, number, sample, suffix)
        for row, sample in enumerate(samples)
        for number, suffix in enumerate(sample.suffixes, start=1)
    ]
    for row, number, sample, suffix in suffixes:
        labels = _suffix_labels(batch, row, number, collator, sample)
        ids = labels[labels != IGNORE_INDEX].tolist()
        location = sample.example.location
        _ensure(bool(ids), f"{location}: no token has a label, so that it would have no loss")
        _ensure(
            collator.image_token_id not in ids,
            f"{location}: image tokens are labels; only suffix and EOS may have a loss",
        )
        _ensure(
            ids[-1] == collator.tokenizer.eos_token_id,
            f"{location}: the last label is not EOS; the model would never learn to stop",
        )
        decoded = collator.tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
        _ensure(
            decoded == suffix,
            f"{location}: the labels decode to {decoded!r}, but the suffix is {suffix!r}: it was "
            "truncated or changed",
        )
        inputs = batch["input_ids"][row][labels != IGNORE_INDEX].tolist()
        _ensure(inputs == ids, f"{location}: labels and input_ids differ on the suffix")
    return f"labels: suffix and EOS, decoded from {len(samples)} rows"


def _suffix_labels(
    batch: Batch, row: int, suffix_number: int, collator: Collator, sample: TrainingSample
) -> torch.Tensor:
    """Return the labels of one suffix, (tokens,), with tokens excluded from the loss filled in."""
    labels, inputs = batch["labels"][row], batch["input_ids"][row]
    if not sample.other_suffixes and not sample.example.no_loss_spans:
        return labels
    in_suffix = batch["token_type_ids"][row] == suffix_number
    labels = labels.where(in_suffix, IGNORE_INDEX)
    if not sample.example.no_loss_spans:
        return labels
    excluded = in_suffix & (labels == IGNORE_INDEX)
    decoded = collator.tokenizer.decode(inputs[excluded], clean_up_tokenization_spaces=False)
    expected = "".join(sample.suffix[start:end] for start, end in sample.example.no_loss_spans)
    _ensure(
        decoded == expected,
        f"{sample.example.location}: {decoded!r} has no loss, expected {expected!r} to have none",
    )
    return labels.where(~excluded, inputs)


def check_adapter(network: Any, adapter: AdapterConfig) -> str:
    """Check trainable parameters, that the adapter covers whole parts, and the compute dtype."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    _ensure(
        trainable > 0,
        "no parameter is trainable; choose adapter.targets or adapter.trainable_parts",
    )
    counts = _adapted_layer_counts(network)
    for part, (adapted, layers) in counts.items():
        _ensure(
            adapted in (0, layers),
            f"the adapter covers {adapted} of {layers} layers of {part}: module names were matched "
            "by their last component; name parts in adapter.targets instead",
        )
    if isinstance(adapter, Qlora):
        _check_compute_dtype(network, adapter)
    parts = ", ".join(f"{part} {adapted}" for part, (adapted, _) in counts.items() if adapted)
    total = sum(p.numel() for p in network.parameters())
    return f"adapter: {trainable:,} trainable of {total:,} stored parameters ({parts or 'full'})"


def _adapted_layer_counts(network: Any) -> dict[str, tuple[int, int]]:
    """Count the adapted and all linear layers of each part of the network."""
    counts: dict[str, tuple[int, int]] = {}
    for name, module in network.named_modules():
        part = module_group(name)
        if isinstance(module, torch.nn.Linear) and part is not None and "lora_" not in name:
            adapted, layers = counts.get(part, (0, 0))
            counts[part] = (adapted + name.endswith(".base_layer"), layers + 1)
    return counts


def _check_compute_dtype(network: Any, adapter: Qlora) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    quantized = [m for m in network.modules() if isinstance(m, Linear4bit | Linear8bitLt)]
    _ensure(bool(quantized), "adapter=qlora is set, but no layer is quantized")
    unquantized = next(network.get_input_embeddings().parameters()).dtype
    expected = TORCH_DTYPES.get(adapter.compute_dtype, unquantized)
    for module in quantized:
        if isinstance(module, Linear4bit):
            _ensure(
                module.compute_dtype == expected,
                f"4-bit layers compute in {module.compute_dtype}, but adapter.compute_dtype is "
                f"{expected}",
            )


def _probe_row(
    batch: Batch, samples: Sequence[TrainingSample]
) -> tuple[Batch, list[TrainingSample]]:
    """Return the shortest row of a batch, one with several suffixes if there is one."""
    several = [row for row, sample in enumerate(samples) if sample.other_suffixes]
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    row = min(several or range(len(samples)), key=lengths.__getitem__)
    keys = (*_TOKEN_KEYS, "labels")
    return {key: batch[key][row : row + 1] for key in keys}, [samples[row]]


def check_mask(
    network: Any,
    batch: Batch,
    samples: Sequence[TrainingSample] = (),
    settings: TrainingConfig | None = None,
) -> list[str]:
    """Check the attention mask of each row of a batch in training and in evaluation mode.

    Args:
        network: Network with its adapter.
        batch: A batch of the collator. Rows are checked one after the other.
        samples: Its samples. Without them no row may have tokens excluded from the loss.
        settings: Settings of the training, whose gradient checkpointing and activation offloading
            apply; None for the defaults.
    """
    settings = settings or TrainingConfig()
    suffix = _suffix_mask(batch, samples)
    for row in range(len(suffix)):
        tokens = {key: batch[key][row : row + 1] for key in _TOKEN_KEYS}
        probe = _MaskProbe(network, tokens, suffix[row], settings)
        for is_training, mode in ((True, "training"), (False, "evaluation")):
            with training_mode(network, is_training):
                probe.check(mode)
    return [
        "mask: suffix tokens attend neither to later ones nor to padding (training and evaluation)",
        "mask: image and prefix attend to each other in both directions (training and evaluation)",
    ]


class _MaskProbe:
    """Derivatives of logits of one row with respect to its embeddings.

    The row keeps at most `MAX_PROBED_IMAGE_TOKENS` of its image tokens and `MAX_PROBED_PADDING` of
    its padding, so that the probe is shorter than a training step.
    """

    def __init__(
        self, network: Any, tokens: Batch, suffix: torch.Tensor, settings: TrainingConfig
    ) -> None:
        image_token_id = network.config.image_token_id
        kept = _probed_positions(tokens, image_token_id)
        self.network, self.settings = network, settings
        self.tokens = {key: row[:, kept].to(network.device) for key, row in tokens.items()}
        self.suffix = suffix[kept].to(network.device)
        self.types = self.tokens["token_type_ids"][0]
        self.real = self.tokens["attention_mask"][0].bool()
        self.is_image = self.tokens["input_ids"][0] == image_token_id
        self.position = torch.arange(len(self.suffix), device=network.device)

    def check(self, mode: str) -> None:
        """Raise SelfCheckError if the mask is wrong; `mode` is named in the error."""
        labelled = self.position[self.suffix].tolist()
        first, last = labelled[0], labelled[-1]
        middle = (first + last) // 2
        from_image, from_prefix, from_middle = self._influencing_tokens([0, first - 1, middle])

        # The logit before the first suffix token predicts it: no suffix token may influence it.
        _ensure(
            not bool((from_prefix & self.suffix).any()),
            f"a suffix token influences the logit that predicts it (in {mode} mode): the labels "
            "leak",
        )
        # A suffix token may not attend to later ones.
        _ensure(
            not bool((from_middle & (self.position > middle)).any()),
            f"a suffix token attends to later ones or padding (in {mode} mode): the labels leak",
        )
        _ensure(
            not bool((from_middle & self.suffix & (self.types != self.types[middle])).any()),
            f"a suffix token attends to another suffix of its row (in {mode} mode): the labels "
            "leak",
        )
        # The first position, an image token, must attend to the text of the prefix. Half of it is
        # enough: attention to a single token may round to zero, and a causal prefix shows none.
        text = (self.position < first) & ~self.is_image
        _ensure(
            int((from_image & text).sum()) * 2 >= int(text.sum()),
            f"the image does not attend to the prefix (in {mode} mode): the mask is causal, unlike "
            "PaliGemma's pre-training",
        )
        _ensure(
            not bool((from_image & ~self.real).any()),
            f"image tokens attend to padding (in {mode} mode)",
        )

    def _influencing_tokens(self, positions: list[int]) -> list[torch.Tensor]:
        """Return for each position which tokens influence its logits: (tokens,) bool each."""
        captured: list[torch.Tensor] = []

        def capture(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            captured.append(output.detach().requires_grad_())
            return captured[-1]

        keep = torch.zeros_like(self.tokens["attention_mask"], dtype=torch.bool)
        keep[0, positions] = True
        handle = self.network.get_input_embeddings().register_forward_hook(capture)
        try:
            with (
                checkpointed_layers(self.network, self.settings),
                activation_offload_context(self.settings, self.network),
            ):
                # Without pixel_values image tokens keep their embedding, which has a gradient.
                logits = self.network(**self.tokens, logits_to_keep=keep, use_cache=False).logits
                gradients = [
                    _gradient(row, captured[0], retain_graph=row is not logits[-1])
                    for row in logits.float()
                ]
        finally:
            handle.remove()
        return [(gradient.abs().amax(-1) > 0)[0] for gradient in gradients]


def _probed_positions(tokens: Batch, image_token_id: int) -> torch.Tensor:
    """Return the positions that a probe keeps: (tokens,) bool."""
    real = tokens["attention_mask"][0].bool()
    is_image = tokens["input_ids"][0] == image_token_id
    kept_images = is_image & (is_image.flip(0).cumsum(0).flip(0) <= MAX_PROBED_IMAGE_TOKENS)
    kept_padding = ~real & ((~real).cumsum(0) <= MAX_PROBED_PADDING)
    return kept_padding | (real & ~is_image) | kept_images


def _gradient(
    logits: torch.Tensor, embeddings: torch.Tensor, *, retain_graph: bool
) -> torch.Tensor:
    """Return the gradient of a random projection of logits, computed without overflow.

    A plain sum of logits could cancel, and the gradient of their squares overflows in float16.

    Args:
        logits: Logits of one position, (vocabulary,) float32.
        embeddings: Input embeddings of the row, (1, tokens, width).
        retain_graph: Whether another gradient follows.
    """
    rng = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, logits.shape, generator=rng).mul_(2).sub_(1).to(logits)
    projection = (logits * signs).sum() / len(logits) ** 0.5
    (gradient,) = torch.autograd.grad(projection, embeddings, retain_graph=retain_graph)
    _ensure(
        bool(gradient.isfinite().all()),
        f"the gradients of the embeddings are not finite in {embeddings.dtype}. Set "
        "model.dtype=fp32.",
    )
    return gradient


def check_padding(network: Any, collator: Collator, samples: Sequence[TrainingSample]) -> str:
    """Check that padding a row to the length of a longer one does not change its logits."""
    lengths = [int(collator.collate_train([sample])["attention_mask"].sum()) for sample in samples]
    short, long = samples[lengths.index(min(lengths))], samples[lengths.index(max(lengths))]
    single, pair = collator.collate_train([short]), collator.collate_train([short, long])
    first_row = {key: pair[key][:1] for key in (*_TOKEN_KEYS, "labels")}
    images = {key: value for key, value in single.items() if key not in first_row}
    with training_mode(network, False), torch.no_grad():
        alone = _first_logits(network, single)
        padded = _first_logits(network, first_row | images)
    error = float((alone - padded).abs().max() / alone.abs().max().clamp(min=1e-6))
    bound = 1e-3 if _is_batch_invariant(network) else 5e-2
    _ensure(
        error < bound,
        f"padding changes the logits of a row by {error:.1e} relative (limit {bound:.0e})",
    )
    return f"padding: the logits of a padded row equal those of the row alone (to {error:.0e})"


def _first_logits(network: Any, batch: Batch) -> torch.Tensor:
    """Return the logits of the first labels of a row: (labels, vocabulary) float32."""
    inputs = {name: tensor.to(network.device) for name, tensor in batch.items()}
    positions = loss_positions(inputs.pop("labels"))
    kept = positions & (positions.cumsum(dim=1) <= MAX_COMPARED_LABELS)
    logits: torch.Tensor = network(**inputs, logits_to_keep=kept).logits
    return logits.float()


def _is_batch_invariant(network: Any) -> bool:
    """Return whether logits of a row are independent of the batch, unlike int8 layers' outliers."""
    dtype = next(network.get_input_embeddings().parameters()).dtype
    int8 = any(type(module).__name__ == "Linear8bitLt" for module in network.modules())
    return dtype == torch.float32 and not int8


def _ensure(condition: bool, message: str) -> None:
    if not condition:
        raise SelfCheckError(message)
