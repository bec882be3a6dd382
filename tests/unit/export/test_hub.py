"""Uploads to the Hub, and the error of a failed one."""

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from palitune.errors import ModelError
from palitune.export.hub import upload_folder


def test_a_failed_upload_raises_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host\nTraceback of the library")

    monkeypatch.setattr(HfApi, "create_repo", unreachable)
    with pytest.raises(ModelError) as error:
        upload_folder(tmp_path, "me/boats", private=True)
    assert str(error.value) == (
        "push_to_hub=me/boats: the upload failed (no route to host). The export is complete in "
        f"{tmp_path}. Run `hf auth login`, then `hf upload me/boats {tmp_path}`."
    )


def test_the_folder_is_uploaded_to_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        HfApi, "create_repo", lambda _, name, **options: calls.append((name, options))
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **options: calls.append(options))
    assert upload_folder(tmp_path, "me/boats", private=False) == "https://huggingface.co/me/boats"
    assert calls[0] == ("me/boats", {"private": False, "exist_ok": True})
    assert (calls[1]["repo_id"], calls[1]["folder_path"]) == ("me/boats", tmp_path)
