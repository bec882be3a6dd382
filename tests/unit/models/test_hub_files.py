"""A model's files are found, or one sentence tells why not; its fingerprint tells it apart."""

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
def copied(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny PaliGemma 2 that a test may damage."""
    return Path(shutil.copytree(tiny("paligemma2"), tmp_path / "model"))


@pytest.mark.parametrize("read", [load, load_processor])
def test_a_missing_folder_is_named(read: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no config\.json in .*nowhere; give the folder"):
        read(Local(path=str(tmp_path / "nowhere")))


def test_another_kind_of_model_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(ModelError, match="describes a 'llava' model; a 'paligemma'"):
        load(Local(path=str(copied)))


def test_a_config_that_is_no_json_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        load(Local(path=str(copied)))


def test_another_language_model_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["text_config"] = {"model_type": "llama"}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="describes a 'llama' model; a 'paligemma' over Gemma 1"):
        load(Local(path=str(copied)))


def test_families_are_told_apart_by_their_language_model(tiny: Callable[[str], Path]) -> None:
    for family in ("paligemma", "paligemma2"):
        assert hub_files.family(hub_files.read_config(tiny(family))) == family


# Which base it is --------------------------------------------------------------------------------


def test_a_fingerprint_is_the_same_in_every_dtype_and_tells_checkpoints_apart(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = hub_files.fingerprint(tiny("paligemma2"))
    for dtype in (torch.bfloat16, torch.float16):
        tensors = load_file(tiny("paligemma2") / "model.safetensors")
        folder = tmp_path / str(dtype)
        folder.mkdir()
        save_file({k: t.to(dtype) for k, t in tensors.items()}, folder / "model.safetensors")
        assert hub_files.fingerprint(folder) == wanted
    other = build_tiny(tmp_path / "other", "paligemma2", seed=1)
    assert hub_files.fingerprint(other) != wanted


def test_a_fingerprint_sees_a_change_of_one_layer_of_the_language_model(copied: Path) -> None:
    before = hub_files.fingerprint(copied)
    tensors = load_file(copied / "model.safetensors")
    tensors["language_model.model.layers.1.self_attn.v_proj.weight"].mul_(-1)
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    assert hub_files.fingerprint(copied) != before


# The hub -----------------------------------------------------------------------------------------

NO_RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=403, text="")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            hub.GatedRepoError("403", response=NO_RESPONSE),
            r"google/paligemma2-3b-pt-224 is gated: accept the licence at "
            r"https://huggingface\.co/google/paligemma2-3b-pt-224, then run `hf auth login` or set "
            r"HF_TOKEN, or give its folder as model\.path=FOLDER",
        ),
        (
            hub.RepositoryNotFoundError("404", response=NO_RESPONSE),
            r"the hub shows no google/paligemma2-3b-pt-224 at revision main",
        ),
        (
            hub.RevisionNotFoundError("404", response=NO_RESPONSE),
            r"the hub shows no google/paligemma2-3b-pt-224 at revision main",
        ),
        (
            hub.LocalEntryNotFoundError("no route"),
            r"is not in the local cache and the hub cannot be reached: connect, or give its folder",
        ),
        (OSError("disk full"), r"could not be downloaded \(disk full\): try again, or give"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_refusal_of_the_hub_becomes_a_sentence_with_a_way_out(
    answer: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise answer

    monkeypatch.setattr(hub_files, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=message):
        load(PaliGemma2())


def test_without_a_network_the_sentence_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_processor(PaliGemma2(size="28b", resolution=896))


def test_the_revision_is_asked_for_and_weights_only_where_they_are_needed(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, list[str]]] = []

    def download(source: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((source, revision, allow_patterns))
        return str(tiny("paligemma2"))

    monkeypatch.setattr(hub_files, "snapshot_download", download)
    model = PaliGemma2(size="10b", variant="mix", resolution=448, revision="abc")
    load_processor(model)
    load(model)
    assert asked == [
        ("google/paligemma2-10b-mix-448", "abc", ["*.json", "*.model"]),
        ("google/paligemma2-10b-mix-448", "abc", ["*.json", "*.model", "*.safetensors"]),
    ]
