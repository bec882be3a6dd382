"""Train a codec between masks and `<seg>` tokens with the architecture of PaliGemma's codec.

    OMP_NUM_THREADS=1 python scripts/build/mask_codec.py --rate 1e-3 --bfloat16 \
        --output src/palitune/embedded/mask_codec.safetensors

trains the embedded codec on the ink of the embedded handwriting and on drawn blobs, both randomly
rotated, stretched and moved. It takes 15 minutes on one core of an AMD EPYC and reaches a mean IoU
of .84 on the validation pages and .85 on the test pages. `--instances FILE` trains on the masks of
a COCO instances file instead and holds out every tenth image. The method is AiT's (Ning et al.
2023): squared error between masks in [-1, 1], straight-through gradients, a codebook of moving
averages (decay .99), commitment .25. At the end the program prints the mean IoU between held-out
masks and the masks decoded from their tokens.

The same command gives the same codec on the same machine with the same number of threads. Use a new
codec only with a model that is trained with it: the released PaliGemma checkpoints were trained
with the released codec.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from palitune.codec import masks, tokens
from palitune.codec.mask_vqvae import MaskVQVAE, load_mask_vqvae
from palitune.records import Instance

HANDWRITING = Path(__file__).parents[2] / "src/palitune/embedded/handwriting"

DECAY, COMMITMENT = 0.99, 0.25
UNQUANTIZED_FRACTION = 0.05
"""Share of the steps that are taken before there is a codebook: its start is what they find."""
DEAD_CODE_THRESHOLD = 0.03
"""A code that is used less than this share of the mean is given a new place."""

Shape = NDArray[np.uint8]
"""An object cut out of its image: (height, width), 0 outside, 255 inside, grey at soft edges."""
Object = tuple[Shape, Instance]


# Objects -----------------------------------------------------------------------------------------


def handwriting_objects(split: str) -> Iterator[Object]:
    """Yield the digits of the embedded pages; pixels darker than medium gray are inside."""
    content = json.loads((HANDWRITING / f"{split}_instances.json").read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        page = np.asarray(Image.open(HANDWRITING / names[annotation["image_id"]]).convert("L"))
        x, y, width, height = annotation["bbox"]
        grey = page[y : y + height, x : x + width].astype(np.float32)
        ink = (grey.max() - grey) / (grey.max() - grey.min())
        mask = np.zeros(page.shape, dtype=bool)
        mask[y : y + height, x : x + width] = ink > 0.5
        box = (x, y, x + width, y + height)
        yield (ink * 255).astype(np.uint8), Instance("digit", box, mask=mask)


def coco_objects(file: Path, held_out: bool) -> Iterator[Object]:
    """Yield the objects of every tenth image of a COCO instances file, or of all others."""
    from pycocotools import mask as coco_mask

    content = json.loads(file.read_bytes())
    tenth = {image["id"] for image in content["images"][::10]}
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        image, outline = annotation["image_id"], annotation.get("segmentation")
        if not outline or annotation.get("iscrowd") or (image in tenth) != held_out:
            continue
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            outline = coco_mask.frPyObjects(outline, *sizes[image])
        mask = coco_mask.decode(coco_mask.merge(outline) if isinstance(outline, list) else outline)
        x, y, width, height = annotation["bbox"]
        instance = Instance("object", (x, y, x + width, y + height), mask=mask.astype(bool))
        cut = Image.fromarray(masks.crop_to_box(mask * np.uint8(255), instance.box))
        cut.thumbnail((128, 128), Image.Resampling.BOX)
        if np.asarray(cut).max() > 127:
            yield np.asarray(cut), instance


def random_blob(rng: random.Random) -> Shape:
    """Draw overlapping ellipses and polygons, sometimes with a hole."""
    image = Image.new("L", (128, 128))
    canvas = ImageDraw.Draw(image)
    for part in range(rng.choice((1, 1, 2, 3))):
        fill = 0 if part and rng.random() < 0.3 else 255
        x, y, a, b = (rng.uniform(*bounds) for bounds in ((40, 88), (40, 88), (10, 38), (10, 38)))
        if rng.random() < 0.5:
            canvas.ellipse((x - a, y - b, x + a, y + b), fill=fill)
        else:
            angles = sorted(rng.uniform(0, 2 * math.pi) for _ in range(rng.randint(3, 8)))
            canvas.polygon([(x + a * math.cos(t), y + b * math.sin(t)) for t in angles], fill=fill)
    return np.asarray(image) if np.asarray(image).any() else random_blob(rng)


def augment_shape(shape: Shape, rng: random.Random, *, strong: bool) -> NDArray[np.float32]:
    """Rotate, shear and stretch a shape, crop it with some margin, and rasterize it coarsely.

    A `wild` one is turned to any side and mirrored, too. Returns a crop of whole pixels, 0 or 1.
    """
    height, width = shape.shape
    side = 160
    scale = 96 / max(height, width)
    angle = math.radians(rng.uniform(-180, 180) if strong else rng.uniform(-10, 10))
    shear, stretch = rng.uniform(-0.15, 0.15), math.exp(rng.uniform(-0.25, 0.25))
    mirror = -1 if strong and rng.random() < 0.5 else 1
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    a, b, d, e = mirror * cos * stretch, mirror * (sin + shear / scale), -sin * stretch, cos
    middle = side / 2
    affine = (a, b, width / 2 - (a + b) * middle, d, e, height / 2 - (d + e) * middle)
    turned = Image.fromarray(shape).transform(
        (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    box = turned.point(lambda value: 255 * (value > 127)).getbbox()
    if box is None:
        return augment_shape(shape, rng, strong=strong)
    tall = math.exp(rng.uniform(math.log(20), math.log(72)))
    pixel = (box[3] - box[1]) / tall
    margins = [rng.choice((0, 1, 2, 2, 3)) * pixel for _ in range(4)]
    cut = (box[0] - margins[0], box[1] - margins[1], box[2] + margins[2], box[3] + margins[3])
    size = max(4, round((cut[2] - cut[0]) / pixel)), max(4, round((cut[3] - cut[1]) / pixel))
    coarse = turned.transform(size, Image.Transform.EXTENT, cut, Image.Resampling.BILINEAR)
    return (np.asarray(coarse) > 127).astype(np.float32)


def training_batches(
    shapes: list[Shape], size: int, blob_ratio: float, seed: int
) -> Iterator[Tensor]:
    """Yield batches of masks, (size, 64, 64) in [-1, 1], endlessly."""
    rng = random.Random(seed)
    while True:
        crops = []
        for _ in range(size):
            drawn = rng.random() < blob_ratio
            shape = random_blob(rng) if drawn else rng.choice(shapes)
            crops.append(augment_shape(shape, rng, strong=drawn or rng.random() < blob_ratio))
        yield 2 * torch.from_numpy(masks.resize_crops(crops)) - 1


# Training ----------------------------------------------------------------------------------------


class EmaCodebook:
    """Codebook of moving averages of the vectors assigned to each code."""

    def __init__(self, network: MaskVQVAE, features: Tensor) -> None:
        self.book = network.codebook.data
        self.book.copy_(sample_vectors(features, tokens.NUM_CODES))
        self.counts = torch.ones(tokens.NUM_CODES)
        self.sums = self.book.clone()

    def update(self, features: Tensor, codes: Tensor) -> None:
        """Update the codes with the vectors (n, depth) assigned to them; `codes` is (n,)."""
        chosen = F.one_hot(codes, tokens.NUM_CODES).float()
        self.counts.lerp_(chosen.sum(0), 1 - DECAY)
        self.sums.lerp_(chosen.T @ features, 1 - DECAY)
        forgotten = self.counts < DEAD_CODE_THRESHOLD * self.counts.mean()
        if count := int(forgotten.sum()):
            self.sums[forgotten] = sample_vectors(features, count)
            self.counts[forgotten] = 1.0
        self.book.copy_(self.sums / self.counts[:, None])


def sample_vectors(features: Tensor, count: int) -> Tensor:
    """Draw `count` vectors, each once before any is repeated."""
    order = torch.randperm(len(features))
    return features[order.repeat(math.ceil(count / len(order)))[:count]]


def train(
    network: MaskVQVAE,
    data: Iterable[Tensor],
    format_progress: Callable[[], str],
    *,
    steps: int,
    rate: float,
    bfloat16: bool,
) -> None:
    """Train with Adam and a cosine schedule from `rate` to 0."""
    parameters = [p for p in network.parameters() if p is not network.codebook]
    optimizer = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2,
    )
    codebook, start, losses = None, time.monotonic(), []
    for step, batch in zip(range(steps), data, strict=False):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            features = network.encode_features(batch).float()
        commitment = torch.zeros(())
        passed = features
        if step >= UNQUANTIZED_FRACTION * steps:
            codebook = codebook or EmaCodebook(network, features.detach())
            codes = network.nearest_codes(features.detach())
            chosen = network.codebook.detach()[codes]
            codebook.update(features.detach(), codes)
            commitment = F.mse_loss(features, chosen)
            passed = features + (chosen - features).detach()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            drawn = network.decode_features(passed).float()
        error = F.mse_loss(drawn, batch)
        optimizer.zero_grad()
        (error + COMMITMENT * commitment).backward()
        optimizer.step()
        schedule.step()
        losses.append(error.item())
        if (step + 1) % max(1, steps // 20) == 0:
            mean, losses = sum(losses) / len(losses), []
            seconds = time.monotonic() - start
            print(
                f"step {step + 1}: error {mean:.4f}, {format_progress()}, {seconds:.0f} s",
                flush=True,
            )


def reconstruction_iou(network: MaskVQVAE, instances: list[Instance]) -> float:
    """Return the mean IoU between masks and the masks decoded from their tokens."""
    codec, ious = masks.MaskCodec(network), []
    for instance in instances:
        mask = instance.mask
        assert mask is not None
        size = mask.shape[1], mask.shape[0]
        [read] = masks.decode(masks.encode([instance], size, codec), size, codec).instances
        assert read.mask is not None
        union = (mask | read.mask).sum()
        ious.append((mask & read.mask).sum() / union if union else 0.0)
    return float(np.mean(ious))


def to_storage_dtypes(network: MaskVQVAE) -> dict[str, Tensor]:
    """Round the tensors for the file: half precision, and 8 bits for the 3 x 3 kernels.

    The kernels hold more than half of all numbers; rounding them costs no more than a thousandth of
    the IoU, and the file stays below 3 MB.
    """
    return {
        name: tensor.to(torch.float8_e4m3fn if tensor.shape[2:] == (3, 3) else torch.float16)
        for name, tensor in network.state_dict().items()
    }


def main() -> None:
    """Train the codec, round it, print its IoU, and save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors to write")
    parser.add_argument("--instances", type=Path, help="COCO instances file with segmentations")
    parser.add_argument("--blobs", type=float, help="share of drawn blobs (.15; 0 with a file)")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate")
    parser.add_argument("--bfloat16", action="store_true", help="faster where the CPU has it")
    parser.add_argument("--seed", type=int, default=0)
    args: Any = parser.parse_args()

    torch.manual_seed(args.seed)
    if args.instances:
        training = coco_objects(args.instances, False)
        others = coco_objects(args.instances, True)
        held_out = [instance for _, (_, instance) in zip(range(500), others, strict=False)]
    else:
        training = handwriting_objects("train")
        held_out = [instance for _, instance in handwriting_objects("validation")]
    shapes = [shape for shape, _ in training]
    print(f"{len(shapes)} masks to learn from, {len(held_out)} held out", flush=True)
    blobs = args.blobs if args.blobs is not None else 0.0 if args.instances else 0.15
    network = MaskVQVAE()
    data = training_batches(shapes, args.batch_size, blobs, args.seed)
    settings = {"steps": args.steps, "rate": args.rate, "bfloat16": args.bfloat16}
    train(network, data, lambda: f"IoU {reconstruction_iou(network, held_out):.4f}", **settings)

    rounded = to_storage_dtypes(network)
    print(f"held-out IoU of the codec: {reconstruction_iou(network, held_out):.4f}")
    rounded_iou = reconstruction_iou(load_mask_vqvae(rounded), held_out)
    print(f"held-out IoU of the rounded codec: {rounded_iou:.4f}")
    save_file(rounded, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
