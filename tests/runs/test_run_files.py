import errno
import os
from pathlib import Path
from typing import Any

import pytest

from omnictl.errors import DiskFull, RunError
from omnictl.runs.files import read_json, write_json, write_text, writing


def refuse(code: int) -> Any:
    def call(*_args: object, **_kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_text_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one\n")
    write_text(path, "zwei – drei\n")
    assert path.read_bytes() == "zwei – drei\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "b": {"ü": True}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_a_number_that_is_not_finite_is_our_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    monkeypatch.setattr(os, name, refuse(code))
    if name == "replace":
        monkeypatch.setattr(Path, "replace", refuse(code))
    with pytest.raises(DiskFull) as caught:
        write_text(path, "new")
    assert caught.value.exit_code == 7
    assert caught.value.message.startswith(f"no space left while writing {path} (")
    assert caught.value.message.endswith(" MiB free)")
    assert caught.value.fix == "free some space, or put the runs elsewhere with --runs DIR, then go on with --resume"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(Path, "open", refuse(code))
    with pytest.raises(RunError) as caught:
        write_text(tmp_path / "a.json", "new")
    assert caught.value.exit_code == 4
    assert caught.value.message == f"cannot write to {tmp_path / 'a.json'}: {os.strerror(code)}"
    assert caught.value.where == str(tmp_path / "a.json")
    assert caught.value.fix == "make the folder writable, or choose another with --runs DIR"


def test_other_refusals_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error") as caught, writing(tmp_path):
        refuse(errno.EIO)()
    assert type(caught.value) is OSError


def test_the_free_space_is_found_from_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="MiB free"), writing(tmp_path / "not" / "there"):
        refuse(errno.ENOSPC)()


@pytest.mark.parametrize("content", [None, "", "{", "\udc80"])
def test_what_is_not_json_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError) as caught:
        read_json(path)
    assert caught.value.message.startswith(f"cannot read {path}: ")
    assert caught.value.fix == "check that the path is a run made by omnictl"
