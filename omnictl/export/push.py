"""Sends an export to the Hugging Face hub."""

from pathlib import Path
from typing import Any

from omnictl.errors import RunError, UsageError
from omnictl.export.extras import require


def list_files(folder: Path) -> dict[str, int]:
    """Bytes of every file of an export, by its path in it.

    Raises:
        UsageError: it is no folder that `omnictl export` wrote.
    """
    if not (folder / "README.md").is_file():
        raise UsageError(
            f"{folder} is not an export: it has no README.md",
            where=str(folder),
            fix=f"make one: omnictl export --to hf --out {folder}",
        )
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def send(folder: Path, repository: str, *, private: bool) -> str:
    """Send an export, into a new repository if there is none of that name. Returns where it can be seen.

    Raises:
        RunError: there is no token or no network, or the hub refuses it.
        UsageError: `huggingface_hub` is not installed.
    """
    hub: Any = require("huggingface_hub", "export")
    if hub.get_token() is None:
        raise RunError(
            "nothing was sent: there is no token for the hub",
            where=repository,
            fix="hf auth login, or set HF_TOKEN; --dry-run only says what would be sent",
        )
    client = hub.HfApi()
    try:
        address = client.create_repo(repository, private=private, exist_ok=True)
        client.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Upload {folder.name} with omnictl")
    except Exception as error:  # the library hands on those of several HTTP clients
        raise RunError(
            f"nothing was sent, or not all of it: {error}",
            where=repository,
            fix="check the network, the name and what the token may write, then run the command again",
        ) from error
    return str(address)
