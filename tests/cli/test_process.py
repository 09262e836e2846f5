"""The command as its own process: start-up, exit codes, signals, terminals."""

import os
import pty
import re
import signal
import subprocess
import sys
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
