"""Compare the answers of OpenVINO with those in answers.jsonl, for each kind of ONNX files.

Ends with exit code 1 if an answer of the float32 files differs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import openvino

from palitune.export.onnx import session
from palitune.export.onnx.export import FOLDER
from palitune.export.onnx.files import OnnxQuantization
from palitune.export.onnx.generation import OnnxModel
from palitune.models.config import Local
from palitune.models.loading import load_processor
from palitune.records import Example

MAX_NEW_TOKENS = 40


class OpenVinoSession:
    """The part of ONNX Runtime's interface that generation needs."""

    def __init__(self, file: Path) -> None:
        self._names = session.open_session(file)
        self._model = openvino.Core().compile_model(str(file), "CPU")

    def get_inputs(self) -> Any:
        return self._names.get_inputs()

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        results = self._model(inputs)
        return [results[output] for output in self._model.outputs]


def main(folder: Path) -> int:
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    processor = load_processor(Local(path=str(folder / "merged")))
    failed = False
    for kind in OnnxQuantization:
        model = load(folder / kind.value, processor)
        equal = sum(answer(model, line) == line["answer"] for line in lines)
        print(f"{folder.name}, {kind.value}: {equal} of {len(lines)} answers identical", flush=True)
        failed |= kind is OnnxQuantization.none and equal < len(lines)
    return int(failed)


def load(folder: Path, processor: Any) -> OnnxModel:
    settings = json.loads((folder / "config.json").read_text())["transformers.js_config"]
    return OnnxModel(folder / FOLDER, settings["dtype"], processor, OpenVinoSession)


def answer(model: OnnxModel, line: dict[str, str]) -> str:
    example = Example(
        id=line["image"],
        images=(line["image"],),
        size=(112, 112),
        prefix=line["prompt"],
        suffixes=(),
        reference=(),
        location=line["image"],
    )
    tokens = model.generate(example, MAX_NEW_TOKENS)
    text = model.collator.tokenizer.decode(tokens)
    return text.removesuffix(model.collator.tokenizer.eos_token)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
