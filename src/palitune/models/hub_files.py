"""Files of a base model: download, config.json, and a fingerprint of the weights."""

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import safe_open

from palitune.errors import ModelError
from palitune.models.config import ModelConfig


def fetch_model(model: ModelConfig, *, weights: bool) -> Path:
    """Return the folder of a model's files, downloaded from the hub if necessary."""
    source = model.name_or_path()
    if not model.on_hub():
        folder = Path(source).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model: there is no config.json in {folder}; give the folder of a PaliGemma "
                "checkpoint"
            )
        return folder
    page = f"https://huggingface.co/{source}"
    alternative = "or set model.path to the folder of its files."
    patterns = ["*.json", "*.model", *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(source, revision=model.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise ModelError(
            f"{source} is gated. Accept the license at {page}, then run `hf auth login` or set "
            f"HF_TOKEN, {alternative}"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            f"{source} at revision {model.revision} does not exist on the hub or is not visible to "
            f"this account. Check {page} and `hf auth whoami`, {alternative}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{source} is not in the local cache and the hub cannot be reached. Connect to the "
            f"internet, {alternative}"
        ) from error
    except OSError as error:
        raise ModelError(
            f"{source} could not be downloaded ({error}). Try again, {alternative}"
        ) from error


def read_config(folder: Path) -> Any:
    """Read config.json. Raises ModelError unless it is a PaliGemma with Gemma 1 or 2."""
    from transformers import PaliGemmaConfig

    try:
        settings, _ = PaliGemmaConfig.get_config_dict(folder)
        kind = settings.get("model_type")
        if kind == "paligemma":
            kind = settings.get("text_config", {}).get("model_type", "gemma")
            if kind in ("gemma", "gemma2"):
                return PaliGemmaConfig.from_dict(settings)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}/config.json cannot be read: {error}") from error
    raise ModelError(
        f"{folder}/config.json describes a {kind!r} model; it must be a 'paligemma' with Gemma 1 "
        "or 2."
    )


def count_parameters(folder: Path) -> int:
    """Return the number of weights in the *.safetensors files of a checkpoint."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                total += math.prod(tensors.get_slice(key).get_shape())
    return total


def family(config: Any) -> str:
    """Return "paligemma" or "paligemma2"."""
    return "paligemma2" if config.text_config.model_type == "gemma2" else "paligemma"


def fingerprint(folder: Path) -> str:
    """Return a hash of the signs in the first row of every tensor.

    It is the same for all copies of a checkpoint: signs are equal in float32, float16 and bfloat16,
    and name components that differ between versions of transformers are left out.
    """
    signs: dict[str, bytes] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                name = ".".join(p for p in key.split(".") if p not in ("model", "vision_model"))
                if "lm_head" not in name:  # tied to the embeddings, and not in every file
                    row = tensors.get_slice(key)[:1]
                    signs[name] = torch.signbit(row).numpy().tobytes()
    digest = hashlib.sha256()
    for name in sorted(signs):
        digest.update(name.encode() + signs[name])
    return digest.hexdigest()
