"""Upload of an export to the Hugging Face Hub."""

from pathlib import Path

from palitune.errors import ModelError


def upload_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder and return its URL. Raises ModelError if the upload fails."""
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add the model")
    except Exception as error:  # network, account and name errors have no common base class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"push_to_hub={repository}: the upload failed ({reason}). The export is complete in "
            f"{folder}. Run `hf auth login`, then `hf upload {repository} {folder}`."
        ) from error
    return f"https://huggingface.co/{repository}"
