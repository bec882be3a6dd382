"""A hub that does not take an export ends in one sentence."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from palitune.errors import ModelError
from palitune.export.hub import upload_folder


def test_a_hub_out_of_reach_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host\nTraceback of the library")

    monkeypatch.setattr(HfApi, "create_repo", unreachable)
    with pytest.raises(ModelError) as refused:
        upload_folder(tmp_path, "me/boats", private=True)
    assert str(refused.value) == (
        "push_to_hub=me/boats: the hub did not take it (no route to host); the export is whole in "
        f"{tmp_path}: run `hf auth login`, then `hf upload me/boats {tmp_path}`"
    )


def test_the_folder_goes_into_the_repository_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(HfApi, "create_repo", lambda _, name, **how: asked.append((name, how)))
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **how: asked.append(how))
    assert upload_folder(tmp_path, "me/boats", private=False) == "https://huggingface.co/me/boats"
    assert asked[0] == ("me/boats", {"private": False, "exist_ok": True})
    assert (asked[1]["repo_id"], asked[1]["folder_path"]) == ("me/boats", tmp_path)
