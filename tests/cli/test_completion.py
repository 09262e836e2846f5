"""What Tab offers, as a shell asks for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from omnictl.cli.app import run

Ask = Callable[[str], list[str]]


@pytest.fixture
def ask(runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The offers of bash behind a line that has been typed."""

    def offers(line: str) -> list[str]:
        monkeypatch.setenv("_OMNICTL_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([])
        assert ended.value.code == 0
        return capfd.readouterr().out.split()

    return offers


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("omnictl pre", ["pretrain"]),
        ("omnictl pretrain --max-m", ["--max-minutes"]),
        ("omnictl pretrain --preset d", ["debug"]),
        ("omnictl eval a", ["all", "asr", "aligner"]),
        ("omnictl plan a", ["all", "asr"]),
        ("omnictl config describe v", ["vision", "vocoder"]),
        ("omnictl runs comp", ["compare"]),
    ],
)
def test_commands_options_stages_and_presets(ask: Ask, line: str, offered: list[str]) -> None:
    assert ask(line) == offered


def test_runs_the_newest_first(ask: Ask, runs: Path) -> None:
    for place in ("asr/2026-01-01_a", "asr/2026-01-02_b", "vision/2026-01-03_c"):
        (runs / place).mkdir(parents=True)
        (runs / place / "run.json").write_text(json.dumps({}))
    (runs / "asr" / "no_run").mkdir()
    assert ask("omnictl runs show asr/") == ["asr/2026-01-02_b", "asr/2026-01-01_a"]
    assert ask("omnictl eval vision --run v") == ["vision/2026-01-03_c"]
    assert ask("omnictl pretrain --resume x") == []
    assert ask("omnictl asr --resume ") == ["asr/2026-01-02_b", "asr/2026-01-01_a"]
    assert ask("omnictl vision --resume a") == ask("omnictl pipeline --resume a") == []


@pytest.mark.parametrize(
    ("shell", "marks"), [("bash", "complete -o default -F"), ("zsh", "compdef"), ("fish", "complete --command omnictl")]
)
def test_the_script_for_a_shell(shell: str, marks: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_OMNICTL_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit) as ended:
        run([])
    assert ended.value.code == 0
    script = capfd.readouterr().out
    assert marks in script
    assert "_OMNICTL_COMPLETE" in script
