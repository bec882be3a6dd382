"""Seconds before a training that save days after it: is what will be trained what was meant?

Every check looks at the real network, the real collator and real examples. The mask is probed by
gradients: the derivative of a logit with respect to the embedding of a token is exactly zero where
the mask hides the token, in every precision and with quantized weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import TaskDataset, concatenate_datasets
from palitune.data.images.augmentation import Augmentation
from palitune.data.training_set import TargetSampling, TrainingSample, build_training_set
from palitune.errors import SelfCheckError
from palitune.models.adapters.config import AdapterConfig, Qlora, module_group
from palitune.models.lm_head import IGNORE_INDEX, teacher_forced_logits
from palitune.models.loading import TORCH_DTYPES
from palitune.models.modes import training_mode
from palitune.training.activation_memory import check_device
from palitune.training.arguments import gradient_accumulation_steps
from palitune.training.config import TrainingConfig
from palitune.training.sequence_lengths import check_lengths, evenly_spaced
from palitune.training.vision_feature_cache import check_vision_frozen

CollateFn = Callable[[Sequence[TrainingSample]], Batch]


MAX_AUGMENTATION_PROBES = 200
"""Training samples examined to summarize the augmentation."""


def run_self_check(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: TrainingConfig,
    augmentation: Augmentation,
    adapter: "AdapterConfig",
) -> list[str]:
    """Run the self-check on the real network and data; return what was checked, a sentence each.

    Raises `SelfCheckError`, TrainingError for settings that this device or adapter cannot serve, or
    DataError for over-long examples.
    """
    pass

    check_device(settings, network.device)
    gradient_accumulation_steps(settings)
    if settings.vision_feature_cache is not None:
        check_vision_frozen(network)
    examples = concatenate_datasets(datasets)
    collator = Collator(processor, max_length=settings.max_length, resize_backend=settings.resize)
    together = settings.target_sampling is TargetSampling.all
    lengths, probes = check_lengths(collator, examples, settings.max_length, all_suffixes=together)
    visits = build_training_set(examples, settings.target_sampling, 0, augmentation)
    chosen = [visits[index] for index in probes]
    checked = run_checks(network, processor, collator.collate_train, chosen, adapter)
    remarks = dict.fromkeys(remark for part in datasets for remark in part.task.warnings())
    return [
        lengths,
        *visits.augmentation_summary(evenly_spaced(len(visits), MAX_AUGMENTATION_PROBES)),
        *checked,
        *remarks,
    ]


def run_checks(
    network: Any,
    processor: Any,
    collate_fn: CollateFn,
    samples: Sequence[TrainingSample],
    adapter: AdapterConfig,
) -> list[str]:
    """Run every check and return what was checked, a sentence each.

    `visits` are a few real ones, of different lengths where the data has them. Raises
    SelfCheckError at the first fault.
    """
    batch = collate_fn(samples)
    return [
        check_special_tokens(processor),
        check_labels(batch, processor, samples),
        check_token_type_ids(batch, samples),
        check_adapter(network, adapter),
        *check_mask(network, batch, samples),
        check_padding(network, collate_fn, samples),
    ]


def check_special_tokens(processor: Any) -> str:
    """Every `<loc>` and `<seg>` is one token, and they are numbered in order."""
    tokenizer = processor.tokenizer
    for kind, count, digits in (("loc", 1024, 4), ("seg", 128, 3)):
        texts = [f"<{kind}{index:0{digits}d}>" for index in range(count)]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for text, pieces in zip(texts, ids, strict=True):
            _ensure(
                len(pieces) == 1,
                f"the tokenizer cuts {text} into {len(pieces)} pieces; load the processor of a "
                "PaliGemma checkpoint, whose tokenizer has the location and segmentation tokens",
            )
        _ensure(
            [pieces[0] for pieces in ids] == list(range(ids[0][0], ids[0][0] + count)),
            f"the <{kind}> tokens are not numbered in order; the tokenizer does not fit PaliGemma",
        )
    return "tokens: 1024 <loc> and 128 <seg>, each a single id, in order"


def check_token_type_ids(batch: Batch, samples: Sequence[TrainingSample]) -> str:
    """`token_type_ids` are there: 0 up to the newline, the suffix's number on it and its EOS."""
    _ensure(
        "token_type_ids" in batch,
        "the batch has no token_type_ids: the suffix could see its own future, or the prompt would "
        "be causal, depending on padding; build batches with palitune.data.collator",
    )
    types, real = batch["token_type_ids"], batch["attention_mask"].bool()
    labelled = _suffix_mask(batch, samples)
    _ensure(
        bool((types[labelled] > 0).all()),
        "token_type_ids are 0 on the suffix: it would see its own future and the loss would be a "
        "leak; the suffix needs type 1",
    )
    _ensure(
        bool((types[real & ~labelled] == 0).all()),
        "token_type_ids are 1 on the prompt: it would be read causally, unlike PaliGemma's "
        "pre-training; image and prefix need type 0",
    )
    return "token types: 0 on image and prefix, 1 on suffix and EOS"


def _suffix_mask(batch: Batch, samples: Sequence[TrainingSample]) -> torch.Tensor:
    """Where suffixes stand, (batch, tokens) bool: by their labels, so that types can be judged."""
    suffixes = batch["labels"] != IGNORE_INDEX
    for row, visit in enumerate(samples):
        if visit.example.no_loss_spans:  # `check_labels` reads back what is to have no label
            suffixes[row] |= batch["token_type_ids"][row] > 0
    return suffixes


def check_labels(batch: Batch, processor: Any, samples: Sequence[TrainingSample]) -> str:
    """Labels are the whole suffix and EOS of every row, and nothing else."""
    eos = processor.tokenizer.eos_token_id
    suffixes = [
        (row, number, visit, suffix)
        for row, visit in enumerate(samples)
        for number, suffix in enumerate(visit.suffixes, start=1)
    ]
    for row, number, visit, suffix in suffixes:
        labels = _suffix_labels(batch, row, number, processor, visit)
        ids = labels[labels != IGNORE_INDEX].tolist()
        where = visit.example.location
        _ensure(bool(ids), f"{where}: no token has a label, so nothing would be learnt from it")
        _ensure(
            processor.image_token_id not in ids,
            f"{where}: image tokens are labels; the loss belongs on suffix and EOS only",
        )
        _ensure(
            ids[-1] == eos,
            f"{where}: the last label is not EOS; the model would never learn to stop",
        )
        written = processor.tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
        _ensure(
            written == suffix,
            f"{where}: the labels read {written!r} and the suffix is {suffix!r}: it was cut "
            "or changed on the way",
        )
        inputs = batch["input_ids"][row][labels != IGNORE_INDEX].tolist()
        _ensure(inputs == ids, f"{where}: labels and inputs disagree on the suffix")
    return f"labels: suffix and EOS, read back from {len(samples)} rows"


def _suffix_labels(
    batch: Batch, row: int, suffix_number: int, processor: Any, sample: TrainingSample
) -> torch.Tensor:
    """The labels of a suffix, (tokens,), with the tokens that are to have none where they stand."""
    labels, inputs = batch["labels"][row], batch["input_ids"][row]
    if not sample.other_suffixes and not sample.example.no_loss_spans:
        return labels
    its_own = batch["token_type_ids"][row] == suffix_number
    labels = labels.where(its_own, IGNORE_INDEX)
    if not sample.example.no_loss_spans:
        return labels
    hidden = its_own & (labels == IGNORE_INDEX)
    read = processor.tokenizer.decode(inputs[hidden], clean_up_tokenization_spaces=False)
    told = "".join(sample.suffix[start:end] for start, end in sample.example.no_loss_spans)
    _ensure(
        read == told,
        f"{sample.example.location}: {read!r} carries no loss, and what should not is {told!r}",
    )
    return labels.where(~hidden, inputs)


def check_adapter(network: Any, adapter: AdapterConfig) -> str:
    """Something is trainable, each part is adapted wholly or not at all, precision is as asked."""
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    _ensure(
        trainable > 0,
        "no parameter is trainable; choose adapter.targets or adapter.trainable_parts",
    )
    hit = _adapted_layer_counts(network)
    for part, (adapted, layers) in hit.items():
        _ensure(
            adapted in (0, layers),
            f"the adapter hits {adapted} of {layers} layers of {part}: module names were matched "
            "by their last word; name parts with adapter.targets instead",
        )
    if isinstance(adapter, Qlora):
        _check_compute_dtype(network, adapter)
    named = ", ".join(f"{part} {adapted}" for part, (adapted, _) in hit.items() if adapted)
    total = sum(p.numel() for p in network.parameters())
    return f"adapter: {trainable:,} trainable of {total:,} stored parameters ({named or 'full'})"


def _adapted_layer_counts(network: Any) -> dict[str, tuple[int, int]]:
    """Adapted and existing linear layers of each part of the network."""
    hit: dict[str, tuple[int, int]] = {}
    for name, module in network.named_modules():
        part = module_group(name)
        if isinstance(module, torch.nn.Linear) and part is not None and "lora_" not in name:
            adapted, layers = hit.get(part, (0, 0))
            hit[part] = (adapted + name.endswith(".base_layer"), layers + 1)
    return hit


def _check_compute_dtype(network: Any, adapter: Qlora) -> None:
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    quantized = [m for m in network.modules() if isinstance(m, Linear4bit | Linear8bitLt)]
    _ensure(bool(quantized), "adapter qlora was asked for, but no layer is quantized")
    unquantized = next(network.get_input_embeddings().parameters()).dtype
    asked = TORCH_DTYPES.get(adapter.compute_dtype, unquantized)
    for module in quantized:
        if isinstance(module, Linear4bit):
            _ensure(
                module.compute_dtype == asked,
                f"4-bit layers compute in {module.compute_dtype} and adapter.compute_dtype asked "
                f"for {asked}",
            )


def check_mask(network: Any, batch: Batch, samples: Sequence[TrainingSample] = ()) -> list[str]:
    """Probe who sees whom on the real batch, in training and in evaluation mode.

    `visits` tells which of its rows have suffixes that are silent in part.
    """
    suffix = _suffix_mask(batch, samples).to(network.device)
    batch = {key: value.to(network.device) for key, value in batch.items()}
    for mode in (True, False):
        with training_mode(network, mode):
            _check_mask_in_mode(network, batch, suffix, "training" if mode else "evaluation")
    return [
        "mask: no suffix token sees a later one, no token sees padding (training and evaluation)",
        "mask: image and prefix see each other in both directions (training and evaluation)",
    ]


def _check_mask_in_mode(network: Any, batch: Batch, suffix_mask: torch.Tensor, mode: str) -> None:
    position = torch.arange(suffix_mask.shape[1], device=suffix_mask.device)
    first = torch.where(suffix_mask, position, suffix_mask.shape[1]).amin(dim=1)
    real = batch["attention_mask"].bool()

    # The logit before the first suffix token predicts it, so no suffix token may move it.
    seen = _influencing_tokens(network, batch, position == (first - 1)[:, None])
    _ensure(
        not bool((seen & suffix_mask).any()),
        f"a suffix token influences the logit that predicts it (in {mode} mode): the labels leak",
    )
    # Nor may a suffix token see the ones after it.
    last = torch.where(suffix_mask, position, -1).amax(dim=1)
    middle = (first + last) // 2
    seen = _influencing_tokens(network, batch, position == middle[:, None])
    _ensure(
        not bool((seen & (position > middle[:, None])).any()),
        f"a suffix token sees later ones or padding (in {mode} mode): the labels leak",
    )
    types = batch["token_type_ids"]
    other = suffix_mask & (types != types.gather(1, middle[:, None]))
    _ensure(
        not bool((seen & other).any()),
        f"a suffix token sees another suffix of its row (in {mode} mode): the labels leak",
    )
    # The very first position, an image token, must see the text of the prompt. Half of it is
    # enough: attention to a single token may round to zero, and a causal prompt shows none.
    seen = _influencing_tokens(network, batch, (position == 0).expand(suffix_mask.shape))
    text = (position < first[:, None]) & (batch["input_ids"] != network.config.image_token_id)
    _ensure(
        bool(((seen & text).sum(1) * 2 >= text.sum(1)).all()),
        f"the image does not see the prompt (in {mode} mode): the prefix is read causally, unlike "
        "PaliGemma's pre-training",
    )
    _ensure(not bool((seen & ~real).any()), f"image tokens see padding (in {mode} mode)")


def _influencing_tokens(network: Any, batch: Batch, logit_positions: torch.Tensor) -> torch.Tensor:
    """Which tokens move the logits at the chosen position of their row: (batch, tokens) bool."""
    captured: list[torch.Tensor] = []

    def capture(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        captured.append(output.detach().requires_grad_())
        return captured[-1]

    handle = network.get_input_embeddings().register_forward_hook(capture)
    inputs = {key: value for key, value in batch.items() if key not in ("labels", "pixel_values")}
    try:
        # Image tokens keep their own embedding, so that their influence is seen as well.
        logits = network(**inputs, logits_to_keep=logit_positions, use_cache=False).logits
    finally:
        handle.remove()
    # A square, since a plain sum of logits could cancel.
    (gradient,) = torch.autograd.grad(logits.float().square().sum(), captured[0])
    return gradient.abs().amax(-1) > 0


def check_padding(network: Any, collate_fn: CollateFn, samples: Sequence[TrainingSample]) -> str:
    """A row alone and the same row padded beside a longer one give the same logits."""
    lengths = [int(collate_fn([visit])["attention_mask"].sum()) for visit in samples]
    short, long = samples[lengths.index(min(lengths))], samples[lengths.index(max(lengths))]
    with training_mode(network, False), torch.no_grad():
        alone = teacher_forced_logits(network, collate_fn([short]))[0].float()
        padded = teacher_forced_logits(network, collate_fn([short, long]))[0].float()
    padded = padded[: alone.shape[0]]
    error = float((alone - padded).abs().max() / alone.abs().max().clamp(min=1e-6))
    bound = 1e-3 if _is_batch_invariant(network) else 5e-2
    _ensure(
        error < bound,
        f"padding changes the logits of a row by {error:.1e} of their size (bound {bound:.0e})",
    )
    return f"padding: the logits of a padded row equal those of the row alone (to {error:.0e})"


def _is_batch_invariant(network: Any) -> bool:
    """Tell whether a row's logits are its own: int8 layers treat outliers over the whole batch."""
    dtype = next(network.get_input_embeddings().parameters()).dtype
    int8 = any(type(module).__name__ == "Linear8bitLt" for module in network.modules())
    return dtype == torch.float32 and not int8


def _ensure(condition: bool, message: str) -> None:
    if not condition:
        raise SelfCheckError(message)
