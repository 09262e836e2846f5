"""Where an export may go, asked before anything is computed."""

from pathlib import Path

import pytest

from omnictl.errors import UsageError
from omnictl.export.destination import check_place, draft_folder


def test_an_empty_folder_and_a_new_one_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new" / "one"):
        with draft_folder(out) as draft:
            (draft / "a.txt").write_text("a")
        assert [path.name for path in out.iterdir()] == ["a.txt"]


def test_what_cannot_be_replaced_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for out in (Path(), here, Path("../here")):
        with pytest.raises(UsageError, match="is the current folder, which an export cannot replace") as caught:
            check_place(out)
        assert caught.value.fix == f"name a new folder in it: --out {out / 'exported'}"
    (tmp_path / "link").symlink_to(here)
    with pytest.raises(UsageError, match="link is a link"):
        check_place(tmp_path / "link")
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(UsageError, match="disk is a mount point, which an export cannot replace"):
        check_place(tmp_path / "disk")
