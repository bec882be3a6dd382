"""Write the ONNX files of each merged model of `write_answers.py`, in float32 and quantized."""

import shutil
import sys
from pathlib import Path

from palitune.export.onnx.export import FOLDER, write_settings
from palitune.export.onnx.files import OnnxQuantization
from palitune.export.onnx.graphs import export_graphs
from palitune.export.onnx.quantization import quantize_graphs
from palitune.models.adapters.merging import load_with_transformers


def main(folder: Path) -> None:
    for name in ("paligemma", "paligemma2"):
        merged = folder / name / "merged"
        model = load_with_transformers(merged, attn_implementation="eager").float()
        plain = folder / name / OnnxQuantization.none.value
        shutil.copytree(merged, plain, ignore=shutil.ignore_patterns("*.safetensors"))
        export_graphs(model, plain / FOLDER)
        for kind in OnnxQuantization:
            target = folder / name / kind.value
            if kind is not OnnxQuantization.none:
                shutil.copytree(plain, target)
                write_settings(target, quantize_graphs(target / FOLDER, kind))
        write_settings(plain, quantize_graphs(plain / FOLDER, OnnxQuantization.none))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
