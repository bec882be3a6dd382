"""Train the embedded PaliGemma, of under a million parameters, from scratch on printed pages.

    OMP_NUM_THREADS=1 python scripts/build/tiny_model.py --output src/palitune/embedded/tiny_model

Three phases, each with a fixed number of steps and its own seed:

1. dense: vision tower and projector. The targets of each patch are the class, the position in
   reading order and the box of its digit. They are classified against the frozen embeddings of the
   digit and location tokens, so that image features become similar to the embeddings of tokens.
2. language: the language model, on cached image features of a pool of pages.
3. joint: all parameters, at a lower learning rate.

The model should read print well and handwriting badly: the quick start trains it on handwriting.
The shipped weights took 16 minutes on one thread (torch 2.13, AMD EPYC with AVX-512). On 300 pages
of print not seen in training: ocr exact .977, detection recall at IoU .5 .986 (all classes present)
and .840 (one class), largest digit .927, count 1.000. On 300 pages of handwriting on squared paper:
.197, .592, .621, .407, .787. Another processor or torch may round differently and end elsewhere.

Requires matplotlib (for its fonts) and scikit-learn (for the scores on handwriting).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
)

from synthetic_pages import (
    COLUMNS,
    LOC_BINS,
    PAGE_SIZE,
    PLAIN_PAPER,
    QUESTION_COUNT,
    QUESTION_LARGEST,
    ROWS,
    SQUARED_PAPER,
    Distortion,
    Glyph,
    Page,
    Paper,
    PlacedDigit,
    distort,
    handwritten_digits,
    prefix_and_suffix,
    printed_glyphs,
    random_page,
)
from tiny_processor import build_tiny_processor

PATCH_SIZE = 14
GRID = PAGE_SIZE // PATCH_SIZE
PATCHES = GRID * GRID
VISION_WIDTH, LANGUAGE_WIDTH = 128, 64
"""Multiples of 64, so that every linear layer can be quantized in blocks."""

CORPUS = [
    "ocr",
    "detect 7",
    "detect 3 ; 7 ; 1",
    "segment 7",
    "caption en",
    f"answer en {QUESTION_COUNT}",
    f"answer en {QUESTION_LARGEST}",
    "answer en what is the smallest digit?",
    "answer en which digit is first?",
    "a printed form with handwritten digits and numbers",
    "box line page red green blue black",
]
"""Texts that the tokenizer is trained on."""

BACKGROUND = 10
"""Class of a patch that lies on no digit."""

TASK_WEIGHTS = {"ocr": 0.22, "detect_all": 0.46, "detect_one": 0.16, "largest": 0.1, "count": 0.06}
BOX_SIGMA = 14.0
"""Width of the soft target of a box edge, in location bins: 1.5 pixels."""


@dataclass(frozen=True)
class Phase:
    """Length and step size of one phase of training."""

    steps: int
    batch: int
    """Pages per step."""

    learning_rate: float

    def __mul__(self, scale: float) -> Phase:
        """Return the phase with its number of steps scaled."""
        return replace(self, steps=round(self.steps * scale))


DENSE = Phase(steps=1500, batch=32, learning_rate=2e-3)
LANGUAGE = Phase(steps=1600, batch=64, learning_rate=3e-3)
JOINT = Phase(steps=300, batch=64, learning_rate=1.25e-3)
TEST_PAGES = 300


# Building blocks ---------------------------------------------------------------------------------


def build_model(processor: PaliGemmaProcessor) -> PaliGemmaForConditionalGeneration:
    """Build the model, initialized for its small size. Torch must be seeded."""
    tokenizer = processor.tokenizer
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "hidden_size": LANGUAGE_WIDTH,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": 32,
            "max_position_embeddings": 512,
            **ids,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": PAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        projection_dim=LANGUAGE_WIDTH,
        hidden_size=LANGUAGE_WIDTH,
        image_token_index=processor.image_token_id,
        vocab_size=len(tokenizer),
        **ids,
    )
    config._attn_implementation = "sdpa"
    model = PaliGemmaForConditionalGeneration(config)
    initialize(model, first_loc=tokenizer.convert_tokens_to_ids("<loc0000>"))
    return model


@torch.no_grad()
def initialize(model: PaliGemmaForConditionalGeneration, first_loc: int) -> None:
    """Initialize the weights: the default deviation of .02 is too small for 64 channels."""
    language = model.model.language_model
    depth = len(language.layers)
    for name, module in language.named_modules():
        if isinstance(module, nn.Linear):
            writes_residual = "o_proj" in name or "down_proj" in name
            scale = (2 * depth) ** -0.5 if writes_residual else 1.0
            module.weight.normal_(0, scale * module.in_features**-0.5)
    model.model.multi_modal_projector.linear.weight.normal_(0, VISION_WIDTH**-0.5)

    embeddings = language.embed_tokens.weight
    embeddings.normal_(0, 0.08)
    frequencies = torch.logspace(math.log10(0.5), math.log10(24.0), LANGUAGE_WIDTH // 2)
    waves = fourier(torch.arange(LOC_BINS) / LOC_BINS * 2 * math.pi, frequencies)
    waves = waves * torch.cat([frequencies, frequencies]) ** -0.35
    embeddings[first_loc : first_loc + LOC_BINS] = waves / waves.std() * 0.08

    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    frequencies = torch.logspace(0, -2, VISION_WIDTH // 4) * math.pi / 2
    positions = torch.cat([fourier(axis.flatten(), frequencies) for axis in (y, x)], dim=-1)
    model.model.vision_tower.embeddings.position_embedding.weight.copy_(positions * 0.5)


def fourier(values: Tensor, frequencies: Tensor) -> Tensor:
    """Return sines, then cosines, of values times frequencies: (values, 2 x frequencies)."""
    angles = values[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@torch.no_grad()
def whiten_patches(model: PaliGemmaForConditionalGeneration, images: Tensor) -> None:
    """Start the patch embedding from the whitened principal components of inked patches."""
    patches = images.unfold(2, PATCH_SIZE, PATCH_SIZE).unfold(3, PATCH_SIZE, PATCH_SIZE)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * PATCH_SIZE**2)
    inked = patches[patches.std(dim=1) > 0.15]
    mean = inked.mean(dim=0)
    variances, directions = torch.linalg.eigh((inked - mean).T.cov().double())
    variances = variances.flip(0)[:VISION_WIDTH].float()
    directions = directions.flip(1)[:, :VISION_WIDTH].T.float()
    filters = directions / torch.sqrt(variances + 0.003 * variances[0])[:, None]
    embedding = model.model.vision_tower.embeddings.patch_embedding
    embedding.weight.copy_(filters.reshape(embedding.weight.shape))
    embedding.bias.copy_(-filters @ mean)


# Batches -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Right-padded training sequences `<image>*64 <bos> prefix \\n | suffix <eos>`."""

    input_ids: Tensor
    """(batch, tokens) int64."""

    token_type_ids: Tensor
    """(batch, tokens) int64: 0 on image, prefix and padding, 1 on the suffix and its <eos>."""

    attention_mask: Tensor
    """(batch, tokens) int64: 0 on padding."""


class Encoder:
    """Convert prompts and answers to token ids, with a cache of short strings."""

    def __init__(self, processor: PaliGemmaProcessor) -> None:
        self.tokenizer = processor.tokenizer
        self.image_ids = [processor.image_token_id] * PATCHES
        self.first_loc: int = self.tokenizer.convert_tokens_to_ids("<loc0000>")
        self.cache: dict[str, list[int]] = {}

    def encode_text(self, text: str) -> list[int]:
        """Tokenize without special tokens; location tokens cut a text into independent pieces."""
        pieces = re.findall(r"<loc\d{4}>|[^<]+", text)
        for piece in pieces:
            if piece not in self.cache:
                encoded = self.tokenizer(piece, add_special_tokens=False)
                self.cache[piece] = encoded["input_ids"]
        return [index for piece in pieces for index in self.cache[piece]]

    def encode_prompt(self, prefix: str) -> list[int]:
        """Return the ids of `<image>*64 <bos> prefix \\n`."""
        return [
            *self.image_ids,
            self.tokenizer.bos_token_id,
            *self.encode_text(prefix),
            *self.encode_text("\n"),
        ]

    def encode_training(self, pairs: Iterable[tuple[str, str]]) -> Batch:
        """Encode (prefix, suffix) pairs, padded on the right."""
        rows = [
            (self.encode_prompt(prefix), [*self.encode_text(suffix), self.tokenizer.eos_token_id])
            for prefix, suffix in pairs
        ]
        length = max(len(prompt) + len(answer) for prompt, answer in rows)
        batch = Batch(
            torch.full((len(rows), length), self.tokenizer.pad_token_id),
            torch.zeros(len(rows), length, dtype=torch.long),
            torch.zeros(len(rows), length, dtype=torch.long),
        )
        for row, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            batch.input_ids[row, :end] = torch.tensor(prompt + answer)
            batch.token_type_ids[row, len(prompt) : end] = 1
            batch.attention_mask[row, :end] = 1
        return batch

    def encode_generation(self, prefixes: Iterable[str]) -> dict[str, Tensor]:
        """Encode prompts for `generate`, padded on the left."""
        rows = [self.encode_prompt(prefix) for prefix in prefixes]
        length = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": torch.zeros_like(ids),
        }


def pixel_values(pages: Sequence[Page]) -> Tensor:
    """Normalize gray pages to (pages, 3, 112, 112) in [-1, 1], as the image processor does."""
    grey = torch.from_numpy(np.stack([page.image for page in pages])).float() / 127.5 - 1
    return grey[:, None].expand(-1, 3, -1, -1).contiguous()


def image_features(model: PaliGemmaForConditionalGeneration, pages: Sequence[Page]) -> Tensor:
    """Return the projected image tokens of pages: (pages, 64 patches, 64 channels)."""
    vision = model.model.vision_tower(pixel_values=pixel_values(pages))
    return model.model.multi_modal_projector(vision.last_hidden_state)


def hidden_states(
    model: PaliGemmaForConditionalGeneration, batch: Batch, features: Tensor
) -> Tensor:
    """Run the language model under the prefix mask: (batch, tokens, channels).

    Equal to the model's forward pass, but with image features as input, which may be cached.
    """
    embedded = model.get_input_embeddings()(batch.input_ids)
    embedded = torch.cat([features, embedded[:, PATCHES:]], dim=1)
    length = batch.input_ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    in_prefix = (batch.token_type_ids == 0) & (batch.attention_mask == 1)
    visible = causal & (batch.attention_mask == 1)[:, None, :] | in_prefix[:, None, :]
    output = model.model.language_model(
        inputs_embeds=embedded,
        attention_mask=visible[:, None],
        position_ids=torch.arange(1, length + 1)[None],
    )
    return output.last_hidden_state


# Losses ------------------------------------------------------------------------------------------


def soft_cross_entropy(logits: Tensor, edges: Tensor, bins: Tensor) -> Tensor:
    """Score logits over `bins` against a Gaussian around each edge, given in bins: (edges,)."""
    weights = torch.softmax(-0.5 * ((bins - edges[:, None]) / BOX_SIGMA) ** 2, dim=-1)
    return -(weights * F.log_softmax(logits, dim=-1)).sum(dim=-1)


class DenseHeads(nn.Module):
    """Predict class, reading order and box from single patches; dropped after training."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.digit_ids = torch.tensor([encoder.encode_text(str(digit))[0] for digit in range(10)])
        self.first_loc = encoder.first_loc
        self.bins = torch.arange(LOC_BINS).float()[4::8]
        self.edges = nn.Linear(LANGUAGE_WIDTH, 4 * LANGUAGE_WIDTH)
        self.order = nn.Linear(LANGUAGE_WIDTH, ROWS * COLUMNS)
        self.background = nn.Parameter(torch.randn(1, LANGUAGE_WIDTH) * 0.08)
        self.log_scale = nn.Parameter(torch.tensor(1.6))

    def forward(
        self, features: Tensor, embeddings: Tensor, pages: Sequence[Page]
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of projected features (pages, patches, channels) and three accuracies."""
        classes, order, boxes = patch_targets(pages)
        embeddings, scale = embeddings.detach(), self.log_scale.exp()
        features = unit_rms(features.reshape(-1, LANGUAGE_WIDTH))
        vocabulary = torch.cat([embeddings[self.digit_ids], self.background])
        class_logits = scale * features @ vocabulary.T
        on_digit = classes != BACKGROUND
        inked = features[on_digit]
        order_logits = self.order(inked)
        edge_queries = unit_rms(self.edges(inked).reshape(-1, LANGUAGE_WIDTH))
        locations = embeddings[self.first_loc : self.first_loc + LOC_BINS][4::8]
        edge_logits = scale * edge_queries @ locations.T
        edges = boxes[on_digit].reshape(-1) / PAGE_SIZE * (LOC_BINS - 1)
        loss = (
            F.cross_entropy(class_logits, classes)
            + F.cross_entropy(class_logits[on_digit], classes[on_digit])
            + 0.5 * F.cross_entropy(order_logits, order[on_digit])
            + 0.5 * soft_cross_entropy(edge_logits, edges, self.bins).mean()
        )
        with torch.no_grad():
            right_class = class_logits[on_digit].argmax(-1) == classes[on_digit]
            right_order = order_logits.argmax(-1) == order[on_digit]
            bins_off = (self.bins[edge_logits.argmax(-1)] - edges).abs().mean()
        figures = {
            "class": right_class.float().mean().item(),
            "order": right_order.float().mean().item(),
            "edge px": bins_off.item() / LOC_BINS * PAGE_SIZE,
        }
        return loss, figures


def patch_targets(pages: Sequence[Page]) -> tuple[Tensor, Tensor, Tensor]:
    """Label every patch with the digit that covers most of it, if that is a fifth of it or more.

    Returns classes (patches,), places in reading order (patches,), boxes (patches, 4) as y0, x0,
    y1, x1 in pixels; the patches of all pages one after the other.
    """
    classes = np.full((len(pages), GRID, GRID), BACKGROUND)
    order = np.zeros((len(pages), GRID, GRID), np.int64)
    boxes = np.zeros((len(pages), GRID, GRID, 4), np.float32)
    starts = np.arange(GRID) * PATCH_SIZE
    for index, page in enumerate(pages):
        most = np.full((GRID, GRID), 0.2 * PATCH_SIZE**2)
        for place, digit in enumerate(page.digits):
            x0, y0, x1, y1 = digit.box
            high = np.clip(np.minimum(y1, starts + PATCH_SIZE) - np.maximum(y0, starts), 0, None)
            wide = np.clip(np.minimum(x1, starts + PATCH_SIZE) - np.maximum(x0, starts), 0, None)
            covered = np.outer(high, wide)
            mine = covered >= most
            most[mine] = covered[mine]
            classes[index][mine], order[index][mine] = digit.label, place
            boxes[index][mine] = (y0, x0, y1, x1)
    return (
        torch.from_numpy(classes).flatten(),
        torch.from_numpy(order).flatten(),
        torch.from_numpy(boxes).reshape(-1, 4),
    )


def unit_rms(features: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one."""
    return features * torch.rsqrt(features.pow(2).mean(-1, keepdim=True) + 1e-6)


def suffix_loss(
    model: PaliGemmaForConditionalGeneration, hidden: Tensor, batch: Batch, first_loc: int
) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy over the suffix: exact for text, softened to neighbors for box edges."""
    in_suffix = batch.token_type_ids[:, 1:] == 1
    targets = batch.input_ids[:, 1:][in_suffix]
    logits = model.lm_head(hidden[:, :-1][in_suffix])
    is_loc = (targets >= first_loc) & (targets < first_loc + LOC_BINS)
    text_loss = F.cross_entropy(logits[~is_loc], targets[~is_loc], reduction="sum")
    loc_logits = logits[is_loc][:, first_loc : first_loc + LOC_BINS]
    edges = (targets[is_loc] - first_loc).float()
    bins = torch.arange(LOC_BINS).float()
    outside = torch.logsumexp(logits[is_loc], -1) - torch.logsumexp(loc_logits, -1)
    loc_loss = (soft_cross_entropy(loc_logits, edges, bins) + outside).sum()
    texts = (~is_loc).sum()
    with torch.no_grad():
        bins_off = (loc_logits.argmax(-1) - edges).abs().mean()
    figures = {
        "text loss": text_loss.item() / texts.item(),
        "box loss": loc_loss.item() / is_loc.sum().item(),
        "edge px": bins_off.item() / LOC_BINS * PAGE_SIZE,
    }
    return (text_loss + loc_loss) / texts, figures


# Phases ------------------------------------------------------------------------------------------


class PageSampler:
    """An endless supply of pages."""

    def __init__(
        self,
        glyphs: Sequence[Sequence[Glyph]],
        seed: int,
        papers: Sequence[Paper] = (PLAIN_PAPER, PLAIN_PAPER, Paper(noise=4.0)),
    ) -> None:
        self.glyphs, self.papers = glyphs, papers
        self.rng = random.Random(seed)

    def sample(self, number: int, count: Callable[[random.Random], int]) -> list[Page]:
        """Compose pages; `count` draws the number of digits of each."""
        rng = self.rng
        return [
            random_page(self.glyphs, count(rng), rng, rng.choice(self.papers))
            for _ in range(number)
        ]

    def sample_tasks(self, pages: Sequence[Page]) -> list[tuple[str, str]]:
        """Return prefix and suffix of one random task for each page."""
        tasks = self.rng.choices(list(TASK_WEIGHTS), list(TASK_WEIGHTS.values()), k=len(pages))
        return [
            prefix_and_suffix(page, task, self.rng) for page, task in zip(pages, tasks, strict=True)
        ]


def random_count(rng: random.Random) -> int:
    """Draw the number of digits of a page: one, two or three."""
    return rng.choices([1, 2, 3], [0.25, 0.35, 0.4])[0]


def uniform_int(least: int, most: int) -> Callable[[random.Random], int]:
    """Return a function that draws a whole number, both ends included."""
    return lambda rng: rng.randint(least, most)


class Progress:
    """Print the mean of recent figures every hundred steps."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps, self.recent = name, steps, []
        self.started = time.process_time()

    def step(self, figures: dict[str, float]) -> None:
        """Add the values of one step."""
        self.recent.append(figures)
        done = len(self.recent)
        if done % 100 == 0 or done == self.steps:
            means = {key: np.mean([row[key] for row in self.recent[-50:]]) for key in figures}
            text = "  ".join(f"{key} {value:.3f}" for key, value in means.items())
            seconds = time.process_time() - self.started
            print(f"{self.name} {done}/{self.steps}  {seconds:.0f} CPU-s  {text}", flush=True)


def lr_factor(step: int, steps: int, flat: float) -> float:
    """Warm up over 40 steps, stay at 1 for a fraction of the steps, then fall to 0.03."""
    done = step / steps
    return min(1.0, (step + 1) / 40) * (1.0 if done < flat else max(0.03, (1 - done) / (1 - flat)))


def optimizer(groups: Sequence[tuple[Iterable[nn.Parameter], float]]) -> torch.optim.AdamW:
    """Build AdamW over (parameters, learning rate) groups."""
    return torch.optim.AdamW(
        [
            {"params": list(parameters), "lr": rate, "initial_lr": rate}
            for parameters, rate in groups
        ],
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )


def optimizer_step(optim: torch.optim.AdamW, loss: Tensor, factor: float) -> None:
    """Take one clipped step with every learning rate scaled by `factor`."""
    for group in optim.param_groups:
        group["lr"] = group["initial_lr"] * factor
    loss.backward()
    parameters = [parameter for group in optim.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optim.step()
    optim.zero_grad()


def vision_parameters(model: PaliGemmaForConditionalGeneration) -> list[nn.Parameter]:
    """Return the parameters of the vision tower and the projector."""
    inner = model.model
    return [*inner.vision_tower.parameters(), *inner.multi_modal_projector.parameters()]


def train_dense(
    model: PaliGemmaForConditionalGeneration, heads: DenseHeads, pages: PageSampler, phase: Phase
) -> None:
    """Phase 1: teach the vision tower digits and boxes, patch by patch, on crowded pages first."""
    whiten_patches(model, pixel_values(pages.sample(300, uniform_int(3, 6))))
    embeddings = model.get_input_embeddings().weight
    optim = optimizer([([*vision_parameters(model), *heads.parameters()], phase.learning_rate)])
    progress = Progress("dense", phase.steps)
    for step in range(phase.steps):
        crowded = step < 0.7 * phase.steps
        drawn = pages.sample(phase.batch, uniform_int(3, 6) if crowded else uniform_int(1, 4))
        loss, figures = heads(image_features(model, drawn), embeddings, drawn)
        optimizer_step(optim, loss, lr_factor(step, phase.steps, flat=0.55))
        progress.step(figures)


def train_language(
    model: PaliGemmaForConditionalGeneration, encoder: Encoder, pages: PageSampler, phase: Phase
) -> None:
    """Phase 2: teach the language model to read frozen image features, one digit a page first.

    The features of a pool of 1024 pages are kept for 32 steps, with new questions each time.
    """
    optim = optimizer([(model.model.language_model.parameters(), phase.learning_rate)])
    progress = Progress("language", phase.steps)
    for step in range(phase.steps):
        if step % 32 == 0:
            easy = step < 0.15 * phase.steps
            pool = pages.sample(1024, uniform_int(1, 2) if easy else random_count)
            with torch.no_grad():
                parts = [image_features(model, pool[at : at + 64]) for at in range(0, 1024, 64)]
            pool_features = torch.cat(parts)
        chosen = pages.rng.sample(range(1024), phase.batch)
        batch = encoder.encode_training(pages.sample_tasks([pool[index] for index in chosen]))
        hidden = hidden_states(model, batch, pool_features[chosen])
        loss, figures = suffix_loss(model, hidden, batch, encoder.first_loc)
        optimizer_step(optim, loss, lr_factor(step, phase.steps, flat=0.6))
        progress.step(figures)


def train_joint(
    model: PaliGemmaForConditionalGeneration,
    heads: DenseHeads,
    encoder: Encoder,
    pages: PageSampler,
    phase: Phase,
) -> None:
    """Phase 3: train all parameters; the vision tower slowly, with its dense heads."""
    embeddings = model.get_input_embeddings().weight
    optim = optimizer(
        [
            (model.model.language_model.parameters(), phase.learning_rate),
            ([*vision_parameters(model), *heads.parameters()], phase.learning_rate / 4),
        ]
    )
    progress = Progress("joint", phase.steps)
    for step in range(phase.steps):
        drawn = pages.sample(phase.batch, random_count)
        batch = encoder.encode_training(pages.sample_tasks(drawn))
        features = image_features(model, drawn)
        hidden = hidden_states(model, batch, features)
        loss, figures = suffix_loss(model, hidden, batch, encoder.first_loc)
        dense_loss, _ = heads(features, embeddings, drawn)
        optimizer_step(optim, loss + 0.3 * dense_loss, lr_factor(step, phase.steps, flat=0.0))
        progress.step(figures)


# Evaluation --------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(
    model: PaliGemmaForConditionalGeneration, encoder: Encoder, pages: Sequence[Page]
) -> dict[str, float]:
    """Generate the answers to every task on every page and score them."""
    scores: dict[str, float] = {}
    for task in TASK_WEIGHTS:
        rng = random.Random(0)
        pairs = [prefix_and_suffix(page, task, rng) for page in pages]
        answers = generate(model, encoder, pages, [prompt for prompt, _ in pairs])
        targets = [target for _, target in pairs]
        if task.startswith("detect"):
            overlaps = [
                overlap
                for target, answer in zip(targets, answers, strict=True)
                for overlap in matched_ious(target, answer)
            ]
            scores[f"{task} R@.5"] = float(np.mean([overlap >= 0.5 for overlap in overlaps]))
            scores[f"{task} mIoU"] = float(np.mean(overlaps))
        else:
            hits = [answer == target for answer, target in zip(answers, targets, strict=True)]
            scores[f"{task} exact"] = float(np.mean(hits))
        if task == "ocr":
            edits = sum(map(edit_distance, answers, targets))
            scores["ocr CER"] = edits / sum(map(len, targets))
    return scores


def generate(
    model: PaliGemmaForConditionalGeneration,
    encoder: Encoder,
    pages: Sequence[Page],
    prompts: Sequence[str],
) -> list[str]:
    """Answer one prompt per page, greedily."""
    model.eval()
    answers: list[str] = []
    for start in range(0, len(pages), 100):
        inputs = encoder.encode_generation(prompts[start : start + 100])
        images = pixel_values(pages[start : start + 100])
        output = model.generate(**inputs, pixel_values=images, max_new_tokens=28, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        answers += encoder.tokenizer.batch_decode(new, skip_special_tokens=True)
    return answers


def parse_boxes(text: str) -> list[PlacedDigit]:
    """Parse `<loc><loc><loc><loc> label` objects; other text is skipped."""
    matches = re.findall(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})> (\d)", text)
    digits = []
    for y0, x0, y1, x1, label in matches:
        box = tuple(round(int(bin_) / (LOC_BINS - 1) * PAGE_SIZE) for bin_ in (x0, y0, x1, y1))
        digits.append(PlacedDigit(int(label), box))
    return digits


def matched_ious(target: str, answer: str) -> list[float]:
    """Return, for each object of the target, the overlap with its best unused answer, or 0."""
    predicted = parse_boxes(answer)
    overlaps = []
    for reference in parse_boxes(target):
        candidates = [digit for digit in predicted if digit.label == reference.label]
        if not candidates:
            overlaps.append(0.0)
            continue
        best = max(candidates, key=lambda digit: box_iou(digit, reference))
        predicted.remove(best)
        overlaps.append(box_iou(best, reference))
    return overlaps


def box_iou(one: PlacedDigit, other: PlacedDigit) -> float:
    """Return intersection over union of two boxes."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one.box, other.box
    wide, high = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    if wide <= 0 or high <= 0:
        return 0.0
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - wide * high
    return wide * high / union


def edit_distance(one: str, other: str) -> int:
    """Count the insertions, deletions and substitutions between two strings."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        above, row = row, [i]
        for j, right in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
    return row[-1]


def print_table(columns: dict[str, dict[str, float]]) -> None:
    """Print scores with one column per kind of page."""
    print(f"{f'n = {TEST_PAGES}':<18}" + "".join(f"{name:>14}" for name in columns))
    for metric in next(iter(columns.values())):
        values = "".join(f"{column[metric]:>14.3f}" for column in columns.values())
        print(f"{metric:<18}{values}", flush=True)


# Program -----------------------------------------------------------------------------------------


def main() -> None:
    """Train, save in bfloat16, and print the saved model's scores on print and handwriting."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    processor = build_tiny_processor(
        CORPUS * 5, vocab_size=420, max_length=512, image_size=PAGE_SIZE, patch_size=PATCH_SIZE
    )
    encoder = Encoder(processor)
    model = build_model(processor)
    heads = DenseHeads(encoder)
    glyphs = printed_glyphs(16, seed=arguments.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)

    train_dense(model, heads, PageSampler(glyphs, seed=arguments.seed + 1), DENSE * arguments.scale)
    train_language(
        model, encoder, PageSampler(glyphs, arguments.seed + 2), LANGUAGE * arguments.scale
    )
    train_joint(
        model, heads, encoder, PageSampler(glyphs, arguments.seed + 3), JOINT * arguments.scale
    )

    save(model.to(torch.bfloat16), processor, arguments.output)
    saved = PaliGemmaForConditionalGeneration.from_pretrained(arguments.output, dtype=torch.float32)
    fresh_print = PageSampler(printed_glyphs(4, seed=arguments.seed + 1000), seed=1)
    handwriting = PageSampler(handwritten_glyphs(), seed=1, papers=[SQUARED_PAPER])
    columns = {
        kind: evaluate(saved, encoder, pages.sample(TEST_PAGES, random_count))
        for kind, pages in {"print": fresh_print, "handwriting": handwriting}.items()
    }
    print_table(columns)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="scales all numbers of steps")
    return parser.parse_args()


def handwritten_glyphs() -> list[list[Glyph]]:
    """Return the handwritten digits of the validation slice, by class."""
    rng = random.Random(0)
    glyphs: list[list[Glyph]] = [[] for _ in range(10)]
    for label, ink in handwritten_digits("validation"):
        glyphs[label].append(distort(ink, Distortion(), rng))
    return glyphs


def save(
    model: PaliGemmaForConditionalGeneration, processor: PaliGemmaProcessor, folder: Path
) -> None:
    """Write model and processor to a temporary folder, then move it into place."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    for path in unfinished.iterdir():
        path.chmod(0o644)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


if __name__ == "__main__":
    main()
