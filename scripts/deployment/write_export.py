"""Write an adapter of the embedded model, its export, and the logits that both must have."""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from palitune.data.collator import Collator
from palitune.export.export_model import export_merged
from palitune.export.samples import DEFAULT_IMAGE
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.combination import AdapterCombination
from palitune.models.adapters.config import Lora
from palitune.models.config import Dtype, Tiny
from palitune.models.loading import load, load_combined, load_for_training, load_processor
from palitune.models.paligemma import normalize_pixels
from palitune.models.quantization import ExportQuantization
from palitune.records import Example


def main(folder: Path) -> None:
    model = Tiny()
    torch.manual_seed(0)
    network = load_for_training(model, Lora(rank=4, targets=["language", "vision", "projector"]))
    with torch.no_grad():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn_like(weight))  # as after many steps
    save_adapter(network, folder / "adapter", model)

    processor = load_processor(model)
    inputs = _inputs(processor)
    network = load_combined(
        model, AdapterCombination(paths=[str(folder / "adapter")]), quantized=False
    )
    logits = _logits(network, inputs)
    export_merged(
        network,
        processor,
        model,
        folder / "export",
        dtype=Dtype.fp32,
        quantize=ExportQuantization.none,
    )
    shutil.copytree(model.name_or_path(), folder / "base")
    expected = {"logits": logits, "base_logits": _logits(load(model), inputs)}
    save_file(inputs | expected, folder / "expected.safetensors")


def _inputs(processor: object) -> dict[str, torch.Tensor]:
    example = Example(
        id="page",
        images=(str(DEFAULT_IMAGE),),
        size=(112, 112),
        prefix="detect 5",
        suffixes=(),
        reference=(),
        location="page",
    )
    batch = Collator(processor).collate_prompts([example])
    return {**batch, "pixel_values": normalize_pixels(batch["pixel_values"])}


@torch.no_grad()
def _logits(network: object, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return network(**inputs).logits.float()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
