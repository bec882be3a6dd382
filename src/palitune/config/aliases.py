"""Names that other programs use, and ours for them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from palitune.config.recipes import GROUPS, RecipeConfig
from palitune.errors import ConfigError

RECIPE_ALIASES = {
    "train": "finetune", "fine-tune": "finetune", "fit": "finetune", "sft": "finetune",
    "eval": "evaluate", "test": "evaluate", "score": "evaluate", "infer": "predict",
    "inference": "predict", "generate": "predict", "merge": "export", "dpo": "align",
    "grpo": "align", "rlhf": "align", "validate": "check", "memory": "plan", "stats": "inspect",
}  # fmt: skip
_KEY_ALIASES = {
    "lr": "training.learning_rate",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "batch_size": "training.global_batch_size",
    "batch": "training.global_batch_size",
    "per_device_train_batch_size": "training.micro_batch_size",
    "gradient_accumulation_steps": "training.global_batch_size",
    "save_steps": "training.save_every",
    "eval_steps": "training.eval_every",
    "logging_steps": "training.log_every",
    "resume_from_checkpoint": "training.resume",
    "lora_r": "adapter.rank",
    "r": "adapter.rank",
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
    "target_modules": "adapter.targets",
    "modules": "adapter.targets",
    "load_in_4bit": "adapter",
    "model_name_or_path": "model",
    "model_name": "model",
    "base_model": "model",
    "model_id": "model",
    "image_size": "model.resolution",
    "imgsz": "model.resolution",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "precision": "model.dtype",
    "dataset": "data.path",
    "data_path": "data.path",
    "dataset_path": "data.path",
    "data_dir": "data.path",
    "classes": "task.classes",
    "names": "task.classes",
    "labels": "task.classes",
    "output": "output_dir",
    "out": "output_dir",
    "save_dir": "output_dir",
    "project": "output_dir",
    "report_to": "tracking",
    "wandb": "tracking",
    "logger": "tracking",
    "max_length": "training.max_length",
}
_PREFERRED_GROUPS = ("training", "adapter", "data", "task", "model", "evaluation")
_RELEASED = re.compile(
    r"(?:google/)?(?P<family>paligemma2?)-(?P<size>\d+b)-(?P<variant>pt|mix|ft-docci)"
    r"-(?P<resolution>\d+)"
)


def suggest_key(key: str, schema: type[RecipeConfig] | None = None) -> str | None:
    """Return the setting that someone who wrote `key` may mean; None if there is no guess."""
    name = key.rpartition(".")[2].replace("-", "_")
    if schema is not None and name in {field.name for field in fields(schema)}:
        return name
    if name in _KEY_ALIASES:
        return _KEY_ALIASES[name]
    return next((f"{group}.{name}" for group in _groups_with(name)), None)


def _groups_with(name: str) -> Iterator[str]:
    for group in _PREFERRED_GROUPS:
        if any(name == field.name for schema in GROUPS[group].values() for field in fields(schema)):
            yield group


def expand_model_id(overrides: Sequence[str]) -> list[str]:
    """Replace `model=google/paligemma2-3b-pt-224`, or a folder, by the settings for it.

    Raises ConfigError for another repository of the hub.
    """
    expanded: list[str] = []
    for override in overrides:
        key, _, value = override.partition("=")
        value = value.strip("'\"")
        if key != "model" or value in GROUPS["model"]:
            expanded.append(override)
        elif match := _RELEASED.fullmatch(value):
            expanded += [
                f"model={match['family']}", f"model.size={match['size']}",
                f"model.variant={match['variant']}", f"model.resolution={match['resolution']}",
            ]  # fmt: skip
        elif Path(value).expanduser().is_dir():
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            expanded += ["model=local", f"model.path='{quoted}'"]
        elif "/" in value:
            raise ConfigError(
                f"model={value} is neither a folder nor a released PaliGemma such as "
                "google/paligemma2-3b-pt-224. Download it and set model=FOLDER."
            )
        else:
            expanded.append(override)
    return expanded
