from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

Command = Callable[..., Any]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "README.md").write_text("# mine")
    (folder / "model.safetensors").write_bytes(bytes(2000))
    return folder


class Hub:
    """What is used of `huggingface_hub.HfApi`."""

    sent: list[tuple[str, object]]

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        if name == "me/forbidden":
            raise OSError("403 Forbidden")
        return f"https://hub/{name}{'?private' if private else ''}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.sent.append((repo_id, sorted(path.name for path in folder_path.iterdir())))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(Hub, "sent", [], raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    return Hub


def test_what_would_be_sent(omnictl: Command, exported: Path) -> None:
    ended = omnictl("push", exported, "--to", "me/mine", "--dry-run")
    assert ended.code == 0
    assert "model.safetensors                         2,000 bytes" in ended.out
    assert "would be sent to me/mine: 2 files, 0.0 MiB" in ended.out


def test_without_a_token_it_says_what_would_be_sent(omnictl: Command, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    ended = omnictl("push", exported, "--to", "me/mine")
    assert ended.code == 4
    assert "would be sent to me/mine: 2 files" in ended.out
    assert "there is no token for the hub" in ended.err
    assert "hf auth login" in ended.err
    ended = omnictl("push", exported, "--to", "me/mine", "--json")
    assert (ended.json["address"], ended.json["files"]["model.safetensors"]) == (None, 2000)


def test_it_is_sent(omnictl: Command, exported: Path, hub: type[Hub]) -> None:
    ended = omnictl("push", exported, "--to", "me/mine", "--private", "--json")
    assert (ended.code, ended.json["address"]) == (0, "https://hub/me/mine?private")
    assert hub.sent == [("me/mine", ["README.md", "model.safetensors"])]
    ended = omnictl("push", exported, "--to", "me/forbidden")
    assert ended.code == 4
    assert "403 Forbidden" in ended.err


def test_only_exports_are_sent(omnictl: Command, tmp_path: Path) -> None:
    ended = omnictl("push", tmp_path, "--to", "me/mine", "--dry-run")
    assert ended.code == 2
    assert "is not an export: it has no README.md" in ended.err
