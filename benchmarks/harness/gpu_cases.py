"""Measurements of `benchmarks/gpu.py`. Each runs in a process of its own.

Every function returns the columns of one line of a table. Times are wall-clock times between two
synchronizations of the device; memory is the peak that torch allocated, weights included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Device, Local
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.alternatives import make_memory_context
from palitune.planning.calibration import (
    prepare_for_training,
    random_batch,
    training_step,
)
from palitune.planning.flops import micro_batch_flops
from palitune.planning.gpus import Card, card_of_device
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.peak_memory import peak_memory
from palitune.planning.static_memory import MemoryContext
from palitune.training.config import TrainingConfig

Values = dict[str, float | str]
"""Columns of a line."""

PREFIX, SUFFIX = 32, 16
"""Tokens of a prompt and of a suffix."""
ADAPTERS: dict[str, Callable[[], AdapterConfig]] = {
    "lora": Lora,
    "qlora": Qlora,
    "int8": partial(Qlora, bits=8),
    "full": Full,
}
GIB = 2**30


def training_settings(rows: int, *, checkpointing: bool) -> TrainingConfig:
    """Return the settings of a step of one micro-batch."""
    return TrainingConfig(
        global_batch_size=rows, micro_batch_size=rows, gradient_checkpointing=checkpointing
    )


def measure_finetune(
    folder: str, adapter: str, rows: int, checkpointing: bool, steps: int, device: str
) -> Values:
    """Measure our training step, and what the planner predicts for it."""
    from palitune.models.loading import load_for_training

    model = Local(
        path=folder, device=Device(device), final_logit_softcapping="paligemma2" in folder
    )
    config = ADAPTERS[adapter]()
    context = _memory_context(model, config, training_settings(rows, checkpointing=checkpointing))
    batch = _batch_shape(context, rows)
    network = load_for_training(model, config)
    optimizer = prepare_for_training(network, context.training)
    inputs = random_batch(context.model_shape, batch, network.device)
    step = partial(training_step, inputs, network, context.training, optimizer)
    seconds, peak = _time_steps(step, steps)
    tflops = micro_batch_flops(context, batch) / seconds / 1e12
    card = _card()
    return {
        "ms/step": 1000 * seconds,
        "samples/s": rows / seconds,
        "TFLOP/s": tflops,
        **({"MFU": tflops / card.bf16_tflops} if card and card.bf16_tflops else {}),
        "peak GiB": peak,
        "planner GiB": peak_memory(context, batch).total_bytes / GIB,
    }


def measure_stock_finetune(
    folder: str, adapter: str, rows: int, checkpointing: bool, steps: int, device: str
) -> Values:
    """Measure the step of transformers and PEFT on the same model and batch."""
    model = Local(
        path=folder, device=Device(device), final_logit_softcapping="paligemma2" in folder
    )
    context = _memory_context(
        model, ADAPTERS[adapter](), training_settings(rows, checkpointing=checkpointing)
    )
    network = _load_stock(folder, adapter, device, checkpointing=checkpointing)
    inputs = _stock_inputs(
        random_batch(context.model_shape, _batch_shape(context, rows), network.device),
        network.dtype,
    )
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda")

    autocasts = device == "cuda" and adapter == "full"  # as with bf16=True of transformers

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=autocasts):
            loss = network(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds, peak = _time_steps(step, steps)
    return {"stock ms/step": 1000 * seconds, "stock peak GiB": peak}


def measure_generation(folder: str, resolution: int, rows: int, side: str, device: str) -> Values:
    """Measure greedy answers of 6 to 72 tokens: ours, ours with CUDA graphs, or transformers'."""
    from palitune.models.config import Dtype

    from harness import generation
    from harness.training_steps import ModelSize

    dtype = Dtype.bf16 if device == "cuda" else Dtype.fp32
    generator: Any = (generation.Stock if side == "stock" else generation.Ours)(
        Path(folder), device, dtype
    )
    generator.cuda_graphs = side == "graphs"
    config = generator.network.get_base_model().config
    text = config.text_config
    size = ModelSize(text.vocab_size, *[0] * 10, side=resolution)
    lengths = (generation.ANSWER_LENGTHS * rows)[:rows]
    prompts = generation.synthetic_prompts(size, rows, rows, device)
    prompts["input_ids"] = _with_image_token(prompts["input_ids"], config.image_token_id)
    generate = partial(generator.generate, prompts, lengths)
    seconds, peak = _time_steps(generate, 2)
    tokens = sum(lengths)
    prefix = "" if side == "ours" else f"{side} "
    return {f"{prefix}tokens/s": tokens / seconds, f"{prefix}peak GiB": peak}


def measure_attention(
    implementation: str, tokens: int, softcap: float | None, device: str
) -> Values:
    """Measure a layer's attention, forward and backward, and its error against float32."""
    from harness.attention_layers import attention_inputs, reference_output, run_attention

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    inputs = attention_inputs(tokens, softcap, dtype, device)
    layer = partial(run_attention, implementation, inputs)
    seconds, peak = _time_steps(layer, 5)
    error = (layer().float() - reference_output(inputs)).abs().max()
    return {"ms": 1000 * seconds, "peak GiB": peak, "largest error": float(error)}


def measure_evaluation(folder: str, batch_size: int, samples: int, device: str) -> Values:
    """Measure the evaluation of embedded pages, from image files to parsed predictions."""
    from palitune.data.dataset import load_split
    from palitune.data.sources.embedded import Handwriting
    from palitune.evaluation.config import EvaluationConfig
    from palitune.evaluation.evaluate import generate_predictions
    from palitune.models.loading import load, load_processor
    from palitune.tasks.ocr import Ocr

    model = Local(path=folder, device=Device(device))
    settings = EvaluationConfig(batch_size=batch_size, max_samples=samples)
    datasets = load_split(Handwriting(), Ocr(), settings.split)
    network, processor = load(model), load_processor(model)
    _reset_peak()
    started = time.perf_counter()
    predictions = generate_predictions(network, processor, datasets, settings)
    seconds = time.perf_counter() - started
    return {"answers/s": len(predictions[0]) / seconds, "peak GiB": _peak_gib()}


def run_finetune(folder: str, run: str, steps: int, device: str, export: str = "") -> Values:
    """Run `palitune finetune` with QLoRA on embedded pages."""
    return run_program(
        [
            *("finetune", "task=ocr", "data=handwriting", "adapter=qlora"),
            *("model=local", f"model.path={folder}", f"model.device={device}"),
            *(f"training.max_steps={steps}", "training.validation_split=null"),
            *("evaluation.max_samples=16", f"output_dir={run}"),
        ]
    )


def run_export(folder: str, run: str, export: str, device: str, steps: int = 0) -> Values:
    """Run `palitune export` on the adapter of `run_finetune`."""
    return run_program(
        [
            *("export", f"adapter.path={run}/adapter", "samples=2", f"output_dir={export}"),
            *("model=local", f"model.path={folder}", f"model.device={device}"),
        ]
    )


def compare_processes(launch: str, folder: str, device: str) -> Values:
    """Train the embedded model for 20 steps with two processes and with one."""
    losses = []
    for name, options in (("one", []), (launch, [f"launch={launch}", "launch.nproc_per_node=2"])):
        run = Path(folder) / f"processes-{name}"
        command = [sys.executable, "-m", "palitune", "finetune", "task=ocr", "data=handwriting"]
        command += ["model=tiny", f"model.device={device}", "training.max_steps=20", *options]
        command += ["training.log_every=20", "evaluation.max_samples=8", f"output_dir={run}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-300:]}")
        losses.append(last_loss(run / "history.jsonl"))
    difference = abs(losses[0] - losses[1])
    return {"loss of one": losses[0], "loss of two": losses[1], "difference": difference}


def run_program(arguments: Sequence[str]) -> Values:
    """Run `palitune` with these arguments in this process; another exit code than 0 is an error."""
    from palitune.__main__ import run

    _reset_peak()
    started = time.perf_counter()
    code = run(list(arguments))
    if code:
        raise RuntimeError(f"palitune {' '.join(arguments)}: exit code {code}")
    return {"seconds": time.perf_counter() - started, "peak GiB": _peak_gib()}


def run_tests(arguments: Sequence[str]) -> Values:
    """Run pytest with these arguments, and return the counts of its last line."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pytest: exit code {done.returncode}\n{done.stdout[-2000:]}")
    return {"seconds": time.perf_counter() - started, "result": done.stdout.splitlines()[-1]}


def last_loss(history: Path) -> float:
    """Return the last training loss of a run's history."""
    records = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    return float([record["loss"] for record in records if "loss" in record][-1])


def _memory_context(
    model: Local, adapter: AdapterConfig, training: TrainingConfig
) -> MemoryContext:
    model_shape = build_model_shape(model, adapter)
    return make_memory_context(model_shape, model, adapter, training, model.device.value)


def _batch_shape(context: MemoryContext, rows: int) -> BatchShape:
    patches = context.model_shape.num_patches
    return BatchShape(
        rows, seq_len=patches + PREFIX + SUFFIX, num_labels=rows * SUFFIX, num_images=rows
    )


def _load_stock(folder: str, adapter: str, device: str, *, checkpointing: bool) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

    dtype = torch.bfloat16 if device == "cuda" and adapter != "full" else torch.float32
    bits = {"qlora": 4, "int8": 8}.get(adapter)
    quantization = None
    if bits is not None:
        quantization = BitsAndBytesConfig(
            load_in_4bit=bits == 4,
            load_in_8bit=bits == 8,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=["vision_tower", "multi_modal_projector", "lm_head"],
        )
    model: Any = PaliGemmaForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, device_map={"": device}, quantization_config=quantization
    )
    if adapter == "full":
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.train()
    if bits is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    elif checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    targets = Lora().target_modules(model)
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets)).train()


def _stock_inputs(batch: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    from palitune.models.paligemma import normalize_pixels

    return batch | {"pixel_values": normalize_pixels(batch["pixel_values"]).to(dtype)}


def _with_image_token(ids: torch.Tensor, image_token_id: int) -> torch.Tensor:
    from harness.training_steps import FIRST_TEXT_TOKEN, IMAGE_TOKEN

    is_image = ids == IMAGE_TOKEN
    return ids.masked_fill(ids == image_token_id, FIRST_TEXT_TOKEN).masked_fill(
        is_image, image_token_id
    )


def _card() -> Card | None:
    """Return the data sheet of the GPU, if the planner knows it."""
    if not torch.cuda.is_available():
        return None
    memory = torch.cuda.get_device_properties(0).total_memory / GIB
    return card_of_device(torch.cuda.get_device_name(), memory)


def _time_steps(step: Callable[[], Any], count: int) -> tuple[float, float]:
    """Return the median seconds of a step after two others, and the peak memory in GiB."""
    for _ in range(2):
        step()
    _reset_peak()
    seconds = []
    for _ in range(count):
        _synchronize()
        started = time.perf_counter()
        step()
        _synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), _peak_gib()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else float("nan")
