"""Model card of an export: usage, training data, metrics and parity check."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palitune.export.config import ExportConfig
from palitune.export.onnx.export import OnnxReport
from palitune.export.onnx.quantization import file_name
from palitune.export.parity import ParityReport
from palitune.export.vllm_plugin import TRIED_VERSIONS
from palitune.models.adapters.checkpoint import AdapterMetadata, adapts_projector
from palitune.models.adapters.combination import AdapterCombination
from palitune.records import Example
from palitune.report.metrics_table import metrics_table
from palitune.report.rendering import render_template
from palitune.report.run_reader import RunFolder, read_run_folder
from palitune.report.run_writer import write_json

_PROMPTS_PER_COMPONENT = 2
"""Number of example prompts of each part."""


def write_model_card(
    folder: Path,
    combination: AdapterCombination,
    parity: ParityReport,
    examples: Sequence[Example],
    settings: ExportConfig,
    onnx: OnnxReport | None = None,
) -> None:
    """Write README.md and parity.json into an export.

    Args:
        folder: Folder of the exported model.
        combination: The merged adapters.
        parity: Comparison of the export with base and adapter.
        examples: Examples whose prompts are shown.
        settings: Settings of the export.
        onnx: The ONNX files; None without them.
    """
    write_json(folder / "parity.json", asdict(parity))
    content = {
        **_model_fields(combination, parity),
        **_training_fields(_load_training_run(combination)),
        **_usage_fields(examples, settings),
        "title": settings.push_to_hub or folder.absolute().parent.name,
        "location": json.dumps(settings.push_to_hub or "."),
        "folder": settings.push_to_hub or ".",
        "vllm_versions": ", ".join(TRIED_VERSIONS),
        "projector": any(map(adapts_projector, combination.paths)),
        "parity": parity,
        "sentences": parity.summary_lines(),
        "onnx": onnx,
        "onnx_files": {name: file_name(name, dtype) for name, dtype in onnx.dtypes.items()}
        if onnx
        else {},
    }
    card = render_template("model_card.md", content)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _load_training_run(combination: AdapterCombination) -> RunFolder | None:
    """Read the run folder that contains the adapter; None for several adapters."""
    run = Path(combination.paths[0]).expanduser().absolute().parent
    if len(combination.paths) > 1 or not (run / "metrics.json").is_file():
        return None
    return read_run_folder(run)


def _model_fields(combination: AdapterCombination, parity: ParityReport) -> dict[str, Any]:
    record = AdapterMetadata.read(combination.paths[0])
    on_hub = not Path(record.base).expanduser().exists()
    trained = "full fine-tuning of some parts" if record.adapter == "full" else "LoRA"
    if len(combination.paths) > 1:
        rule = combination.combination_type.value
        trained = f"{len(combination.paths)} combined adapters of {trained} (rule {rule})"
    if parity.reduction:
        trained += f", reduced to rank {parity.reduction.rank},"
    if record.bits:
        trained += f" on a base quantized to {record.bits} bits"
    return {
        "base": record.base if on_hub else Path(record.base).name,
        "hub_base": on_hub,
        "resolution": record.resolution,
        "trained": trained,
        "stored": parity.dtype
        + (f" with the language model as {parity.quantize}" if parity.quantize != "none" else ""),
        "final_cap": "on" if record.final_logit_softcapping else "off",
        "attention_cap": "on" if record.attention_logit_softcapping else "off",
    }


def _training_fields(run: RunFolder | None) -> dict[str, Any]:
    if run is None:
        return {"data": [], "metrics": "", "split": ""}
    return {
        "data": [
            (purpose, part, fingerprint)
            for purpose, parts in run.environment.get("data", {}).items()
            for part, fingerprint in parts.items()
        ],
        "metrics": metrics_table(run.metrics).to_markdown().rstrip(),
        "split": run.metrics.get("split", ""),
    }


def _usage_fields(examples: Sequence[Example], settings: ExportConfig) -> dict[str, Any]:
    by_component: dict[str, list[str]] = {}
    for example in examples:
        fields = {
            "part": example.component,
            "prompt": example.prefix,
            "answers": example.suffixes[:1],
        }
        line = json.dumps({k: v for k, v in fields.items() if v}, ensure_ascii=False)
        by_component.setdefault(example.component, []).append(line)
    first = examples[0]
    return {
        "prompts": [
            line
            for lines in by_component.values()
            for line in dict.fromkeys(lines[:_PROMPTS_PER_COMPONENT])
        ],
        "prompt": json.dumps(first.prefix, ensure_ascii=False),
        "image": json.dumps(Path(first.images[0]).name),
        "image_tokens": json.dumps("<image>" * len(first.images)),
        "new_tokens": settings.max_new_tokens,
    }
