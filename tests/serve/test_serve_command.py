"""`omnictl serve` as a process, and the lines of its document."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from loopback import EXAMPLES
from stage_factory import finished_run

from omnictl.cli.app import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "serve.md"


def curl_lines() -> list[str]:
    (block,) = re.findall(r"^```bash\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for line in block.replace("\\\n", " ").splitlines() if line.startswith("curl ")]


@pytest.mark.slow
def test_the_lines_of_the_document_run(tmp_path: Path) -> None:
    finished_run(tmp_path / "runs", "sft")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    command = [sys.executable, "-m", "omnictl", "serve", "--port", "0", "--alias", "gpt-4o"]
    environment = {**os.environ, "OMNICTL_RUNS": "runs", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = re.search(r"127\.0\.0\.1:(\d+)", _read_until(server, "serving on"))
            assert port is not None
            for line in curl_lines():
                asked = line.replace(":8000", f":{port[1]}")
                script = ["bash", "-c", f"{asked} --fail-with-body -sS"]
                done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, 128 + signal.SIGTERM, -signal.SIGTERM)
    assert (tmp_path / "cats.wav").read_bytes()[:4] == b"RIFF"


def _read_until(server: "subprocess.Popen[str]", words: str) -> str:
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line)
        if words in line:
            break
    return "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], ("other machines", "OMNICTL_API_KEY")),
        (["--host", "example.com"], ("other machines", "--host")),
        (["--api-key", " "], ("empty", "--api-key")),
        (["--api-key", "schlüssel"], ("ASCII", "--api-key")),
        (["--host", "203.0.113.7", "--api-key", "k"], ("cannot listen", "--port")),
    ],
)
def test_an_address_that_cannot_be_served_is_refused(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *arguments]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in words), shown


@pytest.mark.parametrize(
    ("arguments", "module", "extra"), [([], "uvicorn", "serve"), (["--vad", "silero"], "silero_vad", "vad")], ids=["serve", "vad"]
)
def test_a_missing_extra_is_named(
    arguments: list[str], module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else object())
    assert run(["serve", *arguments]) == 2
    shown = capsys.readouterr().err
    assert module in shown
    assert f"pip install 'omnictl[{extra}]'" in shown
