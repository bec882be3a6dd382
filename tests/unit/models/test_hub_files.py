"""Files of a base model: errors of folders and hub, and fingerprints."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.errors as hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from palitune.errors import ModelError
from palitune.models import hub_files
from palitune.models.config import Local, PaliGemma2
from palitune.models.loading import load, load_processor

from support.tiny_models import build_tiny


@pytest.fixture
def model_copy(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny PaliGemma 2 that a test may damage."""
    return Path(shutil.copytree(tiny("paligemma2"), tmp_path / "model"))


@pytest.mark.parametrize("read", [load, load_processor])
def test_a_missing_folder_is_named(read: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no config\.json in .*nowhere; give the folder"):
        read(Local(path=str(tmp_path / "nowhere")))


def test_another_kind_of_model_is_refused(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(ModelError, match="describes a 'llava' model; it must be a 'paligemma'"):
        load(Local(path=str(model_copy)))


def test_a_config_that_is_no_json_is_refused(model_copy: Path) -> None:
    (model_copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        load(Local(path=str(model_copy)))


def test_another_language_model_is_refused(model_copy: Path) -> None:
    config = json.loads((model_copy / "config.json").read_text())
    config["text_config"] = {"model_type": "llama"}
    (model_copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match="describes a 'llama' model; it must be a 'paligemma' with"
    ):
        load(Local(path=str(model_copy)))


def test_the_family_follows_from_the_language_model(tiny: Callable[[str], Path]) -> None:
    for family in ("paligemma", "paligemma2"):
        assert hub_files.family(hub_files.read_config(tiny(family))) == family


# Fingerprints -----------------------------------------------------------------------------------


def test_fingerprints_are_equal_in_every_dtype_and_differ_between_checkpoints(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    expected = hub_files.fingerprint(tiny("paligemma2"))
    for dtype in (torch.bfloat16, torch.float16):
        tensors = load_file(tiny("paligemma2") / "model.safetensors")
        folder = tmp_path / str(dtype)
        folder.mkdir()
        save_file({k: t.to(dtype) for k, t in tensors.items()}, folder / "model.safetensors")
        assert hub_files.fingerprint(folder) == expected
    other = build_tiny(tmp_path / "other", "paligemma2", seed=1)
    assert hub_files.fingerprint(other) != expected


def test_a_change_of_one_layer_changes_the_fingerprint(model_copy: Path) -> None:
    before = hub_files.fingerprint(model_copy)
    tensors = load_file(model_copy / "model.safetensors")
    tensors["language_model.model.layers.1.self_attn.v_proj.weight"].mul_(-1)
    save_file(tensors, model_copy / "model.safetensors", metadata={"format": "pt"})
    assert hub_files.fingerprint(model_copy) != before


# The hub -----------------------------------------------------------------------------------------

NO_RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=403, text="")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            hub.GatedRepoError("403", response=NO_RESPONSE),
            r"google/paligemma2-3b-pt-224 is gated\. Accept the license at "
            r"https://huggingface\.co/google/paligemma2-3b-pt-224, then run `hf auth login` or set "
            r"HF_TOKEN, or set model\.path to the folder of its files",
        ),
        (
            hub.RepositoryNotFoundError("404", response=NO_RESPONSE),
            r"google/paligemma2-3b-pt-224 at revision main does not exist on the hub or is not",
        ),
        (
            hub.RevisionNotFoundError("404", response=NO_RESPONSE),
            r"google/paligemma2-3b-pt-224 at revision main does not exist on the hub or is not",
        ),
        (
            hub.LocalEntryNotFoundError("no route"),
            r"is not in the local cache and the hub cannot be reached\. Connect to the "
            r"internet, or set model\.path",
        ),
        (OSError("disk full"), r"could not be downloaded \(disk full\)\. Try again, or set"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_the_hub_becomes_a_sentence_with_a_way_out(
    answer: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise answer

    monkeypatch.setattr(hub_files, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=message):
        load(PaliGemma2())


def test_the_hub_is_not_contacted_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_processor(PaliGemma2(size="28b", resolution=896))


def test_the_revision_is_downloaded_and_weights_only_if_needed(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[tuple[str, str, list[str]]] = []

    def download(source: str, revision: str, allow_patterns: list[str]) -> str:
        requests.append((source, revision, allow_patterns))
        return str(tiny("paligemma2"))

    monkeypatch.setattr(hub_files, "snapshot_download", download)
    model = PaliGemma2(size="10b", variant="mix", resolution=448, revision="abc")
    load_processor(model)
    load(model)
    assert requests == [
        ("google/paligemma2-10b-mix-448", "abc", ["*.json", "*.model"]),
        ("google/paligemma2-10b-mix-448", "abc", ["*.json", "*.model", "*.safetensors"]),
    ]
