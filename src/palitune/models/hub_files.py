"""The files of a base model: fetched once, read from a folder, told apart by a fingerprint.

Everything is read from one folder, so that the hub is asked once and answers in one place.
"""

import hashlib
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
    """Give the folder of the model's files, downloaded first where it is on the hub."""
    source = model.name_or_path()
    if not model.on_hub():
        folder = Path(source).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"model: there is no config.json in {folder}; give the folder of a PaliGemma "
                "checkpoint"
            )
        return folder
    page, instead = f"https://huggingface.co/{source}", "or give its folder as model.path=FOLDER"
    wanted = ["*.json", "*.model", *(["*.safetensors"] if weights else [])]
    try:
        return Path(snapshot_download(source, revision=model.revision, allow_patterns=wanted))
    except GatedRepoError as fault:
        raise ModelError(
            f"{source} is gated: accept the licence at {page}, then run `hf auth login` or set "
            f"HF_TOKEN, {instead}"
        ) from fault
    except (RepositoryNotFoundError, RevisionNotFoundError) as fault:
        raise ModelError(
            f"the hub shows no {source} at revision {model.revision} to this account: check "
            f"{page} and `hf auth whoami`, {instead}"
        ) from fault
    except LocalEntryNotFoundError as fault:
        raise ModelError(
            f"{source} is not in the local cache and the hub cannot be reached: connect, {instead}"
        ) from fault
    except OSError as fault:
        raise ModelError(f"{source} could not be downloaded ({fault}): try again, {instead}") from (
            fault
        )


def read_config(folder: Path) -> Any:
    """Read config.json; anything but a PaliGemma with Gemma 1 or Gemma 2 is refused."""
    from transformers import PaliGemmaConfig

    try:
        written, _ = PaliGemmaConfig.get_config_dict(folder)
        kind = written.get("model_type")
        if kind == "paligemma":
            kind = written.get("text_config", {}).get("model_type", "gemma")
            if kind in ("gemma", "gemma2"):
                return PaliGemmaConfig.from_dict(written)
    except (OSError, ValueError, TypeError, AttributeError) as fault:
        raise ModelError(f"{folder}/config.json cannot be read: {fault}") from fault
    raise ModelError(
        f"{folder}/config.json describes a {kind!r} model; a 'paligemma' over Gemma 1 or 2 is "
        "needed"
    )


def family(config: Any) -> str:
    """Give "paligemma" or "paligemma2"."""
    return "paligemma2" if config.text_config.model_type == "gemma2" else "paligemma"


def fingerprint(folder: Path) -> str:
    """Tell checkpoints apart by the signs in the first row of every tensor.

    Signs are the same in float32, float16 and bfloat16, and module names are compared without the
    levels that layouts of different age have or lack: one checkpoint has one fingerprint.
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
