import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from omnictl.errors import ConfigError, DiskFull, RunError
from omnictl.runs.run import create_run
from omnictl.trainer.log import RunLog, cut_after, json_line

LINES = [
    json_line({"step": step, "split": split}) for step, split in [(0, "val"), (1, "train"), (2, "train"), (2, "val"), (3, "train")]
]


@pytest.mark.parametrize(("step", "kept"), [(-1, 0), (0, 1), (1, 2), (2, 4), (3, 5), (99, 5)])
def test_lines_after_a_step_are_dropped(tmp_path: Path, step: int, kept: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES))
    cut_after(path, step, pytest.fail)
    assert path.read_bytes() == b"".join(LINES[:kept])


@pytest.mark.parametrize("length", range(1, len(LINES[4])))
def test_a_half_written_last_line_is_dropped_wherever_it_breaks(tmp_path: Path, length: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES[:4]) + LINES[4][:length])
    cut_after(path, 99, pytest.fail)
    assert path.read_bytes() == b"".join(LINES[:4])


@pytest.mark.parametrize(
    "rest", [b"\0" * 300 + b"\n", b"\xff\n", b"[1]\n", b'{"step": "x"}\n', b"[" * 100_000 + b"\n", b"9" * 2**21]
)
def test_a_line_that_cannot_be_read_is_where_a_log_ends(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES[:2]) + rest + LINES[2])
    notes: list[str] = []
    cut_after(path, 99, notes.append)
    assert path.read_bytes() == b"".join(LINES[:2])
    assert notes == [f"line 3 of {path} cannot be read: the log ends before it"]


def test_a_log_that_is_no_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    os.mkfifo(path)
    with pytest.raises(RunError) as caught:
        cut_after(path, 99, pytest.fail)
    assert caught.value.message == f"cannot read {path}: it is a pipe or a device, not a regular file"


def test_a_log_that_does_not_exist_stays_away(tmp_path: Path) -> None:
    cut_after(tmp_path / "metrics.jsonl", 3, pytest.fail)
    assert list(tmp_path.iterdir()) == []


def test_numbers_keep_their_full_precision() -> None:
    value = 0.1 + 0.2
    assert json.loads(json_line({"loss": value}))["loss"] == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"loss": float("inf")})


def test_every_line_is_there_at_once(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    log = RunLog(run)
    log.metrics(1, {"loss": 2.5}, split="train")
    log.timings(1, {"seconds": 0.5})
    assert run.metrics_file.read_text() == '{"step": 1, "split": "train", "loss": 2.5}\n'
    assert run.timings_file.read_text() == '{"step": 1, "seconds": 0.5}\n'
    log.close()
    again = RunLog(run)
    again.metrics(2, {"loss": 2.0}, split="train")
    again.close()
    assert len(run.metrics_file.read_text().splitlines()) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's always full disk")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    run.metrics_file.symlink_to("/dev/full")
    log = RunLog(run)
    with pytest.raises(DiskFull, match="no space left while writing"):
        log.metrics(1, {"loss": 2.5}, split="train")
    log.close()


def test_cutting_on_a_full_disk_keeps_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(LINES))
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFull):
        cut_after(path, 1, pytest.fail)
    assert path.read_bytes() == b"".join(LINES)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[IO[Any]]]:
    """The files that were opened; closed in the end."""
    files: list[IO[Any]] = []
    original = Path.open

    def recorded(self: Path, *args: Any, **kwargs: Any) -> IO[Any]:
        files.append(original(self, *args, **kwargs))
        return files[-1]

    monkeypatch.setattr(Path, "open", recorded)
    yield files
    for file in files:
        file.close()


@pytest.mark.usefixtures("opened")
def test_missing_tensorboard_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError) as caught:
        RunLog(run, ["tensorboard"])
    assert caught.value.message == "tensorboard is not installed"
    assert caught.value.where == "train.runtime.trackers"
    assert caught.value.fix == "pip install 'omnictl[tensorboard]', or leave it off: metrics.jsonl holds the same"


def test_missing_tensorboard_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[IO[Any]]) -> None:
    run = create_run(tmp_path, "pretrain", "x", {})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError):
        RunLog(run, ["tensorboard"])
    assert all(file.closed for file in opened)
