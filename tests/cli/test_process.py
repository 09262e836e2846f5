"""The command as its own process: start-up, exit codes, signals, terminals."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import omnictl as package

OMNICTL = [sys.executable, "-m", "omnictl"]


def test_version() -> None:
    ended = subprocess.run([*OMNICTL, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout == f"omnictl {package.__version__}\n"
    assert ended.stderr == ""


def test_help_names_the_commands_and_imports_no_torch() -> None:
    script = (
        "import sys; from omnictl.cli.app import run\n"
        "assert run(['--help']) == 0 and run([]) == 0 and run(['pretrain', '--help']) == 0 and run(['chat', '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'tokenizers'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for name in ("pretrain", "eval", "chat", "config", "--version"):
        assert name in ended.stdout
    assert "\x1b" not in ended.stdout


@pytest.mark.slow
def test_an_error_ends_the_process_with_its_code(tmp_path: Path) -> None:
    command = [*OMNICTL, "pretrain", "--preset", "debug", "--data", "nosuch.txt", "--quiet"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr == "error: no such file or folder: nosuch.txt\nfix: check the path given to --data\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_saves_and_the_line_it_prints_goes_on(omnictl: Callable[..., Any]) -> None:
    command = [*OMNICTL, "pretrain", "--preset", "debug", "--set", "train.steps=100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1/"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 130
    said = re.search(r"interrupted after step (\d+), saved; go on with\n  omnictl (.*)\n", rest)
    assert said is not None
    ended = omnictl(*said[2].split(), "--max-steps", int(said[1]) + 2)
    assert ended.code == 0
    assert f"going on after step {said[1]}" in ended.out


def seen_on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    """What a command writes to standard error when that is a terminal."""
    ours, its = pty.openpty()
    subprocess.run([*OMNICTL, *arguments], stderr=its, stdout=subprocess.DEVNULL, env=environment, check=False)
    os.close(its)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    return seen


def test_no_color_is_honoured_on_a_terminal() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    coloured = r"\x1b\[[0-9;]*3[0-7]m"
    assert re.search(coloured, seen_on_a_terminal(["evla"], environment))
    plain = seen_on_a_terminal(["evla"], environment | {"NO_COLOR": "1"})
    assert "error" in plain
    assert not re.search(coloured, plain)


def started(arguments: list[str], folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """A command under way, its runs and cache in a folder."""
    environment = os.environ | {"OMNICTL_RUNS": str(folder / "runs"), "OMNICTL_CACHE": str(folder / "cache")}
    return subprocess.Popen([*OMNICTL, *arguments], env=environment, **options)


@pytest.mark.faults
@pytest.mark.parametrize("arguments", [["config", "show", "pretrain"], ["pretrain", "--preset", "debug"]], ids=["show", "train"])
def test_full_standard_output_ends_no_training_and_shows_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = started(arguments, tmp_path, stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate()
    assert process.returncode == 7
    assert said.decode().splitlines()[-2:] == [
        "error: no space left where standard output goes: part of what was to be printed is lost, and nothing else",
        "fix: free some space, or send the output elsewhere",
    ]
    assert b"Traceback" not in said
    if arguments[0] == "pretrain":
        (run,) = (tmp_path / "runs" / "pretrain").iterdir()
        assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.faults
def test_a_closed_pipe_ends_no_training(tmp_path: Path) -> None:
    process = started(["pretrain", "--preset", "debug"], tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read()
    assert process.wait() == 0, said
    assert b"Traceback" not in said


def handles(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether a process has come so far that it ignores a signal, or does something of its own about it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def started_and_handling(number: signal.Signals, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The same, once its first line has run: before that it is the interpreter's."""
    process = started(arguments, folder, stderr=subprocess.PIPE)
    while process.poll() is None and not handles(process, number):
        time.sleep(0.005)
    return process


@pytest.mark.faults
def test_usr1_kills_nothing_from_the_first_to_the_last(tmp_path: Path) -> None:
    process = started_and_handling(signal.SIGUSR1, ["pretrain", "--preset", "debug", "--quiet"], tmp_path)
    while process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.05)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    assert process.returncode == 0, said
    (run,) = (tmp_path / "runs" / "pretrain").iterdir()
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code", "first"), [(signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 5)])
def test_an_end_at_any_moment_is_one_in_order(number: signal.Signals, code: int, first: int, tmp_path: Path) -> None:
    """Signals after ever more time, the two of them by turns; what comes out is resumed, or was never begun."""
    for tenths in range(first, 60, 10):
        process = started_and_handling(signal.SIGTERM, ["pretrain", "--preset", "debug", "--quiet"], tmp_path)
        time.sleep(tenths / 10)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode in (code, 0), said
        assert b"Traceback" not in said, said
    folder = tmp_path / "runs" / "pretrain"
    if folder.is_dir():
        resumed = started(["pretrain", "--resume", "latest", "--quiet"], tmp_path)
        assert resumed.wait() == 0
