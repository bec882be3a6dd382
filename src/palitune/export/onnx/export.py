"""ONNX files in the layout of transformers.js, with the share of equal answers per task."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.export.config import ExportConfig
from palitune.export.greedy_outputs import GreedyOutput
from palitune.export.onnx import graphs
from palitune.export.onnx.files import OnnxQuantization
from palitune.export.onnx.generation import OnnxModel
from palitune.export.onnx.quantization import quantize_graphs
from palitune.models.adapters.merging import load_with_transformers
from palitune.records import Example

FOLDER = "onnx"


@dataclass(frozen=True)
class OnnxReport:
    """What was written, and how many answers equal those of the model."""

    quantization: OnnxQuantization
    dtypes: dict[str, str]
    """Dtype of each graph, as transformers.js takes it."""
    num_bytes: int
    """Size of the ONNX files."""
    identical: Counter[str] = field(default_factory=Counter)
    """Identical answers by part of the data."""
    total: Counter[str] = field(default_factory=Counter)
    """Answers by part of the data."""

    def summary_lines(self) -> list[str]:
        """Return sentences for the terminal and the model card."""
        kind = "float32" if self.quantization is OnnxQuantization.none else self.quantization.value
        lines = [f"ONNX, {kind}: {self.num_bytes / 2**20:.1f} MiB"]
        return lines + [
            f"ONNX, {part or 'prompt'}: {self.identical[part]} of {total} answers identical"
            for part, total in self.total.items()
        ]

    @property
    def is_identical(self) -> bool:
        return self.identical == self.total


def export_onnx(
    folder: Path,
    processor: Any,
    examples: Sequence[Example],
    outputs: Sequence[GreedyOutput],
    settings: ExportConfig,
) -> OnnxReport:
    """Add ONNX files to an exported folder and compare their answers with those of the model.

    Args:
        folder: Exported folder with the model of transformers.
        processor: Processor of the model.
        examples: Prompts.
        outputs: Generations of the model for the prompts.
        settings: Settings of the export.

    Raises:
        ModelError: ONNX Runtime computes other outputs in float32.
    """
    answers = [output.token_ids for output in outputs]
    onnx_folder = folder / FOLDER
    graphs.export_graphs(
        load_with_transformers(folder, attn_implementation="eager").float(), onnx_folder
    )
    dtypes = quantize_graphs(onnx_folder, settings.onnx_quantize)
    write_settings(folder, dtypes)
    size = sum(file.stat().st_size for file in onnx_folder.iterdir())
    report = OnnxReport(settings.onnx_quantize, dtypes, size)
    model = OnnxModel(onnx_folder, dtypes, processor)
    for example, expected in zip(examples, answers, strict=True):
        report.total[example.component] += 1
        answer = model.generate(example, settings.max_new_tokens)
        report.identical[example.component] += answer == expected
    return report


def write_settings(folder: Path, dtypes: Mapping[str, str]) -> None:
    """Write the files that transformers.js reads beside the graphs.

    It takes the image processor from `preprocessor_config.json` and the dtypes from the entry
    `transformers.js_config` of `config.json`.
    """
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    preprocessor = processor["image_processor"] | {"processor_class": "PaliGemmaProcessor"}
    _write(folder / "preprocessor_config.json", preprocessor)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    external = {name: 1 for name in dtypes if any((folder / FOLDER).glob(f"{name}*.onnx_data"))}
    config["transformers.js_config"] = {
        "dtype": dict(dtypes),
        **({"use_external_data_format": external} if external else {}),
    }
    _write(folder / "config.json", config)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
