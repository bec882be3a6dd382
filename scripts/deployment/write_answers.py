"""Write an export of each family, with its base and adapter, and Palitune's answers to prompts.

The prompts are about pages of digits.
"""

import json
import sys
from pathlib import Path

import torch
from tiny_paligemma2 import build

from palitune.data.collator import Collator
from palitune.data.sources.embedded import EMBEDDED_FOLDER
from palitune.export.export_model import export_merged
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.config import Lora
from palitune.models.config import Dtype, Local, ModelConfig, Tiny
from palitune.models.generation.generate import generate
from palitune.models.loading import load, load_for_training, load_processor
from palitune.models.quantization import ExportQuantization
from palitune.records import Example

PAGES = {"paligemma": 50, "paligemma2": 17}
PROMPTS = ("ocr", "detect 0 ; 1 ; 2 ; 3", "answer en how many digits are there?")
MAX_NEW_TOKENS = 40


def main(folder: Path) -> None:
    base2 = build(folder / "base2")
    for name, model in {"paligemma": Tiny(), "paligemma2": Local(path=str(base2))}.items():
        torch.manual_seed(0)
        model.final_logit_softcapping = name == "paligemma2"
        network = load_for_training(model, Lora(rank=4, targets=["language", "vision"]))
        with torch.no_grad():
            for weight in network.parameters():
                if weight.requires_grad:
                    weight.add_(0.02 * torch.randn_like(weight))
        save_adapter(network, folder / name / "adapter", model)
        settings = {"dtype": Dtype.fp32, "quantize": ExportQuantization.none}
        for part, each in (("merged", network), ("base", load(model))):
            export_merged(each, load_processor(model), model, folder / name / part, **settings)
        exported = Local(
            path=str(folder / name / "merged"),
            final_logit_softcapping=model.final_logit_softcapping,
        )
        lines = [json.dumps(line) + "\n" for line in answers(exported, PAGES[name])]
        (folder / name / "answers.jsonl").write_text("".join(lines))


def answers(model: ModelConfig, pages: int) -> list[dict[str, object]]:
    network, processor = load(model), load_processor(model)
    collator = Collator(processor)
    lines = []
    images = sorted((EMBEDDED_FOLDER / "handwriting/images").glob("test-*.png"))[:pages]
    for image in images:
        for prompt in PROMPTS:
            example = Example(
                id=image.name,
                images=(str(image),),
                size=(112, 112),
                prefix=prompt,
                suffixes=(),
                reference=(),
                location=image.name,
            )
            batch = collator.collate_prompts([example])
            [answer] = generate(network, collator.tokenizer, batch, MAX_NEW_TOKENS)
            lines.append({"image": str(image), "prompt": prompt, "answer": answer.text})
    return lines


if __name__ == "__main__":
    main(Path(sys.argv[1]))
