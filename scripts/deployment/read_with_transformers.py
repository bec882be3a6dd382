"""Check that plain transformers and PEFT of this environment read what `write_export.py` wrote.

Imports nothing of Palitune.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

MAX_LOGIT_DIFFERENCE = 1e-4
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")


def main(folder: Path) -> None:
    expected = load_file(folder / "expected.safetensors")
    inputs = {name: expected[name] for name in INPUTS}

    exported, keys = AutoModelForImageTextToText.from_pretrained(
        folder / "export", dtype=torch.float32, output_loading_info=True
    )
    wrong = {name: sorted(map(str, found)) for name, found in keys.items() if found}
    assert not wrong, f"keys of the export: {wrong}"
    report("export", exported, inputs, expected["logits"])

    base = AutoModelForImageTextToText.from_pretrained(folder / "base", dtype=torch.float32)
    report("base", base, inputs, expected["base_logits"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        adapted = PeftModel.from_pretrained(base, folder / "adapter")
    loaded = sum("lora_" in name for name, _ in adapted.named_parameters())
    saved = len(load_file(folder / "adapter/adapter_model.safetensors"))
    assert loaded == saved, f"{loaded} LoRA tensors in the network, {saved} in the file"
    report("adapter by PEFT", adapted, inputs, expected["logits"])

    processor = AutoProcessor.from_pretrained(folder / "export")
    token = json.loads((folder / "export/config.json").read_text())["image_token_index"]
    assert processor.image_token_id == token


@torch.no_grad()
def report(name: str, network: object, inputs: dict[str, torch.Tensor], expected: object) -> None:
    difference = float((network.eval()(**inputs).logits - expected).abs().max())
    print(f"transformers {transformers.__version__}, {name}: logits differ by {difference:.2g}")
    assert difference <= MAX_LOGIT_DIFFERENCE, f"{name}: the logits must be equal"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
