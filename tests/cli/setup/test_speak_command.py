"""`omnictl data speak`: dialogues spoken, read back, trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from stage_factory import finished_run

from omnictl.stages.sft import Sft

Command = Callable[..., Any]


@pytest.fixture
def dialogues(runs: Path, tmp_path: Path) -> Path:
    """Questions about two images, beside the working directory's other files."""
    rows = []
    for number in range(20):
        name = f"{number % 2}.png"
        Image.new("RGB", (32, 32), (number % 2 * 200, 0, 0)).save(tmp_path / name)
        asked = [{"type": "image", "image": name}, {"type": "text", "text": f"{'Is it red' if number < 10 else 'What is it'}?"}]
        split = ("train", "train", "val", "test")[number % 4]
        rows.append({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "It is."}], "split": split})
    rows.append({"messages": [{"role": "user", "content": "`x`?"}, {"role": "assistant", "content": "No."}], "split": "train"})
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "mine.jsonl"


def test_people_are_told_how_much_was_spoken_and_what_to_do_next(omnictl: Command, dialogues: Path) -> None:
    ended = omnictl("data", "speak", "mine.jsonl", "--out", "spoken", "--voices", "en-us,en-gb-x-rp+f2", "--replies")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "11 train, 5 val, 5 test dialogues written to spoken"
    assert lines[1].startswith("questions spoken: 20 of 21, 0.")
    assert lines[1].endswith(" minutes, voices: 2")
    assert lines[2].startswith("sentences of the replies spoken: 2, 0.")
    assert lines[3:] == [
        "texts that cannot be spoken and stay written: 1, all in spoken/left_written.csv",
        f"  {dialogues.name}:21: signs that have no reading: `",
        "next",
        "  omnictl sft --data spoken",
        "  omnictl talker --data spoken/replies",
    ]
    checked = omnictl("data", "check", "spoken", "--json")
    assert (checked.json["rows"], checked.json["rows_broken"]) == (21, 0)


def test_programs_get_one_object(omnictl: Command, dialogues: Path) -> None:
    ended = omnictl("data", "speak", "mine.jsonl", "--out", "spoken", "--share", "0.5", "--voices", "en-us", "--json")
    result = ended.json
    assert list(result) == [
        "out", "splits", "questions", "spoken", "minutes", "voices", "replies", "reply_minutes", "left_written", "broken",
        "commands",
    ]  # fmt: skip
    assert 0 < result["spoken"] < 20
    assert result["voices"] == {"en-us": result["spoken"]}
    assert result["commands"] == ["omnictl sft --data spoken"]


@pytest.mark.parametrize(
    ("arguments", "code", "message", "fix"),
    [
        (("gone.jsonl",), 3, "no such file or folder: gone.jsonl", "check the path given to --data"),
        (("mine.jsonl", "--voices", "de"), 2, "there is no English voice 'de'", "--voices en-us,en-gb-x-rp+f2"),
        (("mine.jsonl", "--talker", "gone"), 4, "gone", "omnictl talker"),
        (("tinyworld",), 2, "TinyWorld's dialogues are spoken already", "omnictl data export --kind dialogues --out spoken"),
    ],
)
def test_errors_name_the_fix(
    omnictl: Command, dialogues: Path, arguments: tuple[str, ...], code: int, message: str, fix: str
) -> None:
    ended = omnictl("data", "speak", *arguments, "--out", "spoken")
    assert ended.code == code
    assert message in ended.err
    assert fix in ended.err
    assert not Path("spoken").exists()


@pytest.mark.slow
def test_spoken_dialogues_are_trained_on(omnictl: Command, dialogues: Path, runs: Path) -> None:
    for stage in Sft.needs:
        finished_run(runs, stage)
    assert omnictl("data", "speak", "mine.jsonl", "--out", "spoken", "--voices", "en-us").code == 0
    settings = ("--set", "train.precision=fp32", "--set", "data.replay=0")
    ended = omnictl("sft", "--data", "spoken", "--preset", "debug", "--max-steps", 2, *settings, "--json")
    assert (ended.code, ended.json["steps"]) == (0, 2), ended.err


@pytest.mark.slow
def test_a_talker_asks(omnictl: Command, dialogues: Path, runs: Path) -> None:
    finished_run(runs, "talker")
    run = next((runs / "talker").iterdir())
    ended = omnictl("data", "speak", "mine.jsonl", "--out", "spoken", "--talker", run, "--replies", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["spoken"], ended.json["replies"], len(ended.json["voices"])) == (20, 2, 1)
