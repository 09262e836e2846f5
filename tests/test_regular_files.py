import os
from collections.abc import Callable
from pathlib import Path

import pytest

from omnictl.config.files import read_config
from omnictl.data.images.manifest import IMAGES
from omnictl.data.manifest.compression import LONGEST_LINE
from omnictl.data.speech.manifest import SPEECH
from omnictl.data.text.files import read_rows
from omnictl.errors import OmniError
from omnictl.regular_files import is_special, open_regular, read_regular
from omnictl.runs.files import write_bytes


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match=r"it has 5 bytes, at most 0 MiB are read"):
        read_regular(path, 4)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "a"
    make(path)
    assert is_special(path)
    with pytest.raises(OSError, match="it is a pipe or a device, not a regular file"):
        open_regular(path)


def test_folders_and_files_are_not_special(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert not is_special(tmp_path)
    assert not is_special(tmp_path / "a")
    assert not is_special(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)


def test_a_sparse_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(OSError, match="at most 64 MiB are read"):
        read_regular(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, zeros])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.json", read_config),
        ("a.toml", read_config),
        ("a.csv", SPEECH.read),
        ("a.jsonl", IMAGES.read),
        ("a.txt", lambda path: list(read_rows(path))),
        ("a.jsonl", lambda path: list(read_rows(path))),
        ("a.parquet", lambda path: list(read_rows(path))),
        ("a.wav", lambda path: write_bytes(path, b"never")),
    ],
    ids=range(8),
)
def test_no_reader_waits_for_a_pipe_and_no_writer_replaces_one(
    tmp_path: Path, make: Callable[[Path], None], name: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(OmniError, match="pipe or a device"):
        read(path)
    assert is_special(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.json", read_config),
        ("a.csv", SPEECH.read),
        ("a.txt", lambda path: list(read_rows(path))),
        ("a.jsonl", lambda path: list(read_rows(path))),
    ],
    ids=range(4),
)
def test_endless_files_are_refused(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(40 * 2**30)
    with pytest.raises(OmniError):
        read(path)


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omnictl.data.manifest.compression.LONGEST_LINE", 100)
    path = tmp_path / "a.txt"
    path.write_text("short\n" + "x" * 101)
    with pytest.raises(OmniError, match=r"line 2 of .* has more than"):
        list(read_rows(path))
    assert LONGEST_LINE == 2**27
