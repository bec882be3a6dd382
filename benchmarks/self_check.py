"""Benchmark of the self-check, compared with the training steps that it precedes.

    OMP_NUM_THREADS=1 python benchmarks/self_check.py --check --output benchmarks/self_check

The model has random weights and the proportions of PaliGemma 2 3B at 224 px. One side is the whole
self-check of a data set, the other side three optimizer steps of one micro-batch of four rows; the
self-check must not take longer. `--quick` runs one round on a toy model.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from palitune.data.dataset import load_split
from palitune.data.images.augmentation import NoAugmentation
from palitune.data.sources.jsonl import Jsonl
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load_for_training, load_processor
from palitune.planning.alternatives import make_memory_context
from palitune.planning.calibration import prepare_for_training, training_step
from palitune.planning.model_shapes import build_model_shape
from palitune.tasks.detection import Detection
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData, build_training_data
from palitune.training.self_check import run_self_check

from harness.options import build_parser
from harness.paired_timing import compare, finish
from harness.training_steps import SIZES, save_random_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.tiny_models import build_processor
from support.toy_data import COLORS, write_toy_jsonl

ROWS, STEPS = 4, 3


def main() -> int:
    args = build_parser(__doc__, rounds=5, devices=False).parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = save_model("quick" if args.quick else "proportions", Path(name) / "model")
        data_folder = write_toy_jsonl(Path(name) / "data")
        settings = TrainingConfig(global_batch_size=ROWS, micro_batch_size=ROWS)
        adapter = Lora()
        network = load_for_training(model, adapter)
        data = build_training_data(
            load_processor(model),
            load_split(Jsonl(path=str(data_folder)), Detection(classes=sorted(COLORS)), "train"),
            settings,
            NoAugmentation(),
            seed=0,
        )
        row = compare(
            f"self-check / {STEPS} training steps",
            partial(run_self_check, network, data, settings, adapter),
            training_steps(network, model, data, settings, adapter),
            1.0,
            1 if args.quick else args.rounds,
            find_difference=None,
        )
    return finish([row], args.output, [], check=args.check)


def save_model(size: str, folder: Path) -> Local:
    """Save a random model of a size with a processor whose token ids are those of its config."""
    processor = build_processor(SIZES[size].side)
    tokenizer = processor.tokenizer
    save_random_model(replace(SIZES[size], vocabulary=len(tokenizer)), folder)
    config = json.loads((folder / "config.json").read_text())
    ids = {
        f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("pad", "bos", "eos")
    }
    config |= {**ids, "image_token_index": processor.image_token_id}
    config["text_config"] |= ids
    (folder / "config.json").write_text(json.dumps(config))
    processor.save_pretrained(folder)
    return Local(path=str(folder))


def training_steps(
    network: Any, model: Local, data: TrainingData, settings: TrainingConfig, adapter: Lora
) -> Any:
    """Return a function that runs optimizer steps of one micro-batch of the data."""
    context = make_memory_context(
        build_model_shape(model, adapter), model, adapter, settings, network.device.type
    )
    batch = data.collator.collate_train([data.training_set[index] for index in range(ROWS)])
    optimizer = prepare_for_training(network, context.training)

    def run() -> None:
        network.train()
        for _ in range(STEPS):
            training_step(batch, network, context.training, optimizer)

    return run


if __name__ == "__main__":
    sys.exit(main())
