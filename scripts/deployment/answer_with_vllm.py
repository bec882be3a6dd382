"""Answer the prompts of `write_answers.py` by vLLM with Palitune's plugin; all must be equal.

Arguments: the folder, and `merged` for the export or `adapter` for its adapter on the base.
"""

import json
import os
import sys
from pathlib import Path

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_PLUGINS"] = "palitune"

from PIL import Image
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

MAX_NEW_TOKENS = 40
read_vocabulary = PreTrainedTokenizerFast.get_vocab


def vocabulary_with_newline(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Add the newline, which vLLM looks up, by the name that released tokenizers have for it."""
    vocabulary = read_vocabulary(tokenizer)
    return {**vocabulary, "\n": vocabulary.get("\n", vocabulary.get("Ċ"))}


def main(folder: Path, kind: str) -> None:
    PreTrainedTokenizerFast.get_vocab = vocabulary_with_newline
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    settings = {
        "model": str(folder / ("merged" if kind == "merged" else "base")),
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 256,
        "max_num_seqs": 16,
        "limit_mm_per_prompt": {"image": 1},
        "gpu_memory_utilization": 0.3,  # on a CPU of its memory, which others use too
        "enable_prefix_caching": False,
        "enable_chunked_prefill": False,
    }
    adapter = None
    if kind == "adapter":
        settings |= {"enable_lora": True, "enable_tower_connector_lora": True, "max_lora_rank": 8}
        adapter = LoRARequest("adapter", 1, str(folder / "adapter"))
    refusal = ""
    try:
        LLM(**{**settings, "enable_prefix_caching": True})
    except ValueError as error:
        refusal = str(error)
    assert "PaliGemma reads its prompt in both directions" in refusal, refusal
    engine = LLM(**settings)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_NEW_TOKENS, skip_special_tokens=False)
    prompts = [
        {
            "prompt": line["prompt"],
            "multi_modal_data": {"image": Image.open(line["image"]).convert("RGB")},
        }
        for line in lines
    ]
    outputs = [
        output.outputs[0].text
        for output in engine.generate(prompts, sampling, lora_request=adapter)
    ]
    pairs = [
        (line, output.removesuffix("<eos>")) for line, output in zip(lines, outputs, strict=True)
    ]
    equal = sum(line["answer"] == output for line, output in pairs)
    print(f"vLLM, {folder.name}, {kind}: {equal} of {len(lines)} answers are those of Palitune")
    for line, output in pairs:
        assert line["answer"] == output, (line, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
