import pytest

from omnictl.cli.console import MOST_LINES, Output, error_fields, figures, show_error
from omnictl.cli.train.progress import clock
from omnictl.errors import ConfigError


def test_a_long_error_is_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError("\n".join(f"line {number}" for number in range(50)), fix="write less", where="a.json")
    show_error(error, Output(as_json=False))
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "error (a.json): line 0"
    assert shown[MOST_LINES:] == [f"… and {50 - MOST_LINES} more", "fix: write less"]


def test_where_is_not_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ConfigError("a.json:3: no such key", fix="remove it", where="a.json:3"), Output(as_json=False))
    assert capsys.readouterr().err == "error: a.json:3: no such key\nfix: remove it\n"


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ConfigError("found [bold]x[/bold]", fix="pip install 'omnictl[parquet]'"), Output(as_json=False))
    assert capsys.readouterr().err == "error: found [bold]x[/bold]\nfix: pip install 'omnictl[parquet]'\n"


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["folder"] * 60)
    show_error(ConfigError(path, fix="none"), Output(as_json=False))
    assert path in capsys.readouterr().err


def test_an_error_as_programs_get_it() -> None:
    assert error_fields(ConfigError("no such key", fix="remove it", where="a.json:3")) == {
        "kind": "config",
        "exit_code": 2,
        "where": "a.json:3",
        "message": "no such key",
        "fix": "remove it",
    }


def test_figures() -> None:
    assert figures({"loss": 1.23456, "perplexity": 123456.0}) == "loss 1.2346  perplexity 1.235e+05"


@pytest.mark.parametrize(("seconds", "shown"), [(None, "?"), (5.4, "0:05"), (125, "2:05"), (3725, "1:02:05")])
def test_clock(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown
