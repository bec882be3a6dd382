"""Uploading an export to the hub."""

from pathlib import Path

from palitune.errors import ModelError


def upload_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder and return its address; raises ModelError where the hub does not take it."""
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add the model")
    except Exception as fault:  # of the network, of the account, of the name: the hub's own classes
        first = (str(fault).strip() or type(fault).__name__).splitlines()[0]
        raise ModelError(
            f"push_to_hub={repository}: the hub did not take it ({first}); the export is whole in "
            f"{folder}: run `hf auth login`, then `hf upload {repository} {folder}`"
        ) from fault
    return f"https://huggingface.co/{repository}"
