import io
import json
import os
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from omnictl.cli import terminal
from omnictl.cli.console import Output, printable, show_error
from omnictl.cli.terminal import SafeConsole, json_safe
from omnictl.errors import DataError
from omnictl.report.html import element
from omnictl.visible_text import is_unicode, visible

TITLE = "\x1b]0;PWNED\x07"
HOSTILE = f"a{TITLE}b\x9b31mc\x7f\ud800"
SHOWN = "a␛]0;PWNED␇b\ufffd31mc␡\ufffd"


def test_control_characters_are_shown_and_lines_stay() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("one\n\ttwo – ½ 日本") == "one\n\ttwo – ½ 日本"
    assert visible("".join(map(chr, range(0x20)))).isprintable() is False  # \n and \t alone
    assert all(character.isprintable() for character in visible("".join(map(chr, [*range(9), 0xB, *range(0xE, 0x20), 0x7F]))))


def test_halves_of_characters_are_told() -> None:
    assert is_unicode("日本 ½")
    assert not is_unicode("\udcff")


def printed(*things: object) -> str:
    file = io.StringIO()
    console = SafeConsole(file=file, highlight=False, width=80, force_terminal=True, color_system="standard")
    for thing in things:
        console.print(thing)
    return file.getvalue()


def test_a_line_of_a_file_is_no_emoji() -> None:
    table = Table("place")
    table.add_row("rows.csv:1234: broken")
    out = printed("rows.csv:100: broken", table)
    assert "rows.csv:100: broken" in out
    assert "rows.csv:1234: broken" in out


def test_whatever_is_printed_is_shown_and_styles_still_work() -> None:
    table = Table("name")
    table.add_row(HOSTILE)
    out = printed(HOSTILE, Text(HOSTILE), table, "[bold]fat[/bold]")
    assert TITLE not in out
    assert "\x9b" not in out
    assert out.count("␛]0;PWNED") >= 2  # rich leaves the bell out by itself
    assert "\x1b[1mfat\x1b[0m" in out


def test_errors_and_json_hold_no_escape(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(DataError(f"no label {HOSTILE}", where=HOSTILE, fix=HOSTILE), Output(as_json=True))
    captured = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\x7f", "\x07"} & {*captured.err, *captured.out}
    assert json.loads(captured.out)["error"]["message"].startswith(f"no label a{TITLE}b")


def test_json_means_the_same() -> None:
    value = {"a\x9bb": "\x7f\ud800 é"}
    text = json_safe(json.dumps(value, ensure_ascii=False))
    assert text.isascii() is False
    assert json.loads(text) == value
    assert not {"\x9b", "\x7f", "\ud800"} & {*text}


def test_names_in_no_encoding_are_printable() -> None:
    assert printable(Path(os.fsdecode(b"a\xff.png"))) == "a\ufffd.png"
    assert printable("\ud800") == "\ufffd"


def test_reports_show_control_characters() -> None:
    assert element("p", HOSTILE, title=TITLE) == f'<p title="␛]0;PWNED␇">{SHOWN}</p>'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's always full disk")
def test_output_that_cannot_be_written_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb") as full, (tmp_path / "out").open("wb") as whole:
        lossy = {number: terminal._Lossy(file.fileno()) for number, file in ((1, full), (2, whole))}
        for number, raw in lossy.items():
            text = terminal._text(raw, sys.__stdout__ or io.TextIOWrapper(io.BytesIO()))
            text.write("0123456789" * 10_000)
            text.flush()
            text.write("end \ud800\n")
            text.flush()
            assert (raw.lost is None) == (number == 2)
    assert (tmp_path / "out").read_text() == "0123456789" * 10_000 + "end \\ud800\n"
