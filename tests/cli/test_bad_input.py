"""What a user can get wrong: one screen that says what was found and what to do, the right exit code, nothing half-written."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from omnictl.runs.run import Run

Command = Callable[..., Any]

MOST_LINES = 24
"""Of a screen."""


@pytest.fixture
def files(runs: Path, tmp_path: Path, prose: str) -> None:
    """Files to go wrong with, in the working directory."""
    contents = {
        "empty.txt": b"",
        "blank.txt": b" \n\n \n",
        "binary.txt": b"some text\nand then \xff\xfe\x01",
        "nul.txt": b"some text\nand\0more",
        "image.png": b"\x89PNG\r\n",
        "broken.jsonl": b'{"text": "one"}\n{"text": "two"\n',
        "nokey.jsonl": b'{"content": "one"}\n',
        "notaparquet.parquet": b"PAR1 or not",
        "short.txt": b"a very short text. " * 40,
        "threeletters.txt": b"abc",
        "prose.txt": prose.encode(),
        "typo.json": b'{\n  "train": {"stepz": 3},\n  "model": {"width": "wide"}\n}',
        "broken.json": b'{"train": {"steps": 3}\n',
        "many.json": json.dumps({f"key{number}": 1 for number in range(100)}).encode(),
        "afile": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "nothing_here").mkdir()


class Case(NamedTuple):
    """A command line, how it must end, and words that its message and its fix must have."""

    arguments: str
    code: int
    kind: str
    message: Sequence[str]
    fix: Sequence[str]


def data(arguments: str, message: Sequence[str], fix: Sequence[str]) -> Case:
    return Case(f"pretrain --preset debug {arguments}", 3, "data", message, fix)


def config(arguments: str, message: Sequence[str], fix: Sequence[str]) -> Case:
    return Case(f"pretrain {arguments}", 2, "config", message, fix)


def usage(arguments: str, message: Sequence[str], fix: Sequence[str]) -> Case:
    return Case(arguments, 2, "usage", message, fix)


def run(arguments: str, message: Sequence[str], fix: Sequence[str]) -> Case:
    return Case(arguments, 4, "run", message, fix)


CASES = {
    # The data.
    "missing file": data("--data nosuch.txt", ["no such file", "nosuch.txt"], ["--data"]),
    "no source": data("--data=", ["the source of the data is empty"], ["--data"]),
    "misspelt world": data("--data tinywrld:7", ["tinywrld:7"], ["did you mean --data tinyworld:7"]),
    "seed of the world": data("--data tinyworld:seven", ["whole number", "'seven'"], ["--data tinyworld:7"]),
    "empty file": data("--data empty.txt", ["empty.txt is empty"], ["--data"]),
    "blank file": data("--data blank.txt", ["blank.txt is empty"], ["--data"]),
    "binary file": data("--data binary.txt", ["binary.txt:2", "not UTF-8 text", "0xff"], ["UTF-8"]),
    "NUL byte": data("--data nul.txt", ["nul.txt:2", "NUL byte"], ["text file"]),
    "unknown format": data("--data image.png", ["image.png", ".jsonl, .parquet, .txt"], ["convert"]),
    "broken JSON line": data("--data broken.jsonl", ["broken.jsonl:2", "broken JSON"], ['{"text": "..."}']),
    "no text in JSON": data("--data nokey.jsonl", ["nokey.jsonl:1", "no key 'text'", "'content'"], ["'text'"]),
    "broken Parquet": data("--data notaparquet.parquet", ["not a whole Parquet file"], ["anew"]),
    "folder without text": data("--data nothing_here", ["nothing_here has no"], ["--data"]),
    "vocabulary too large": data("--data short.txt", ["vocabulary of 320", "larger than this corpus allows"], ["data.vocab_size="]),
    "vocabulary too small": data("--set data.vocab_size=5", ["vocabulary of 5 is too small"], ["data.vocab_size=264"]),
    "window longer than the data": data(
        "--data short.txt --set data.vocab_size=266 --set data.seq_len=4000 --set model.context=4000",
        ["window of 4000 tokens", "longer than the train split"],
        ["--set data.seq_len=", "more text"],
    ),
    "no validation text": data(
        "--data short.txt --set data.vocab_size=266 --set data.val_fraction=0", ["val split", "is empty"], ["data.val_fraction=0.1"]
    ),
    # The config.
    "window longer than the context": config(
        "--preset debug --set data.seq_len=256", ["data.seq_len", "256", "model.context", "128"], ["correct"]
    ),
    "empty micro-batch": config("--preset debug --set train.micro_batch=0", ["train.micro_batch", "at least 1"], ["correct"]),
    "impossible betas": config("--preset debug --set train.betas=[2,3]", ["train.betas", "below 1"], ["correct"]),
    "config typo": config(
        "--config typo.json",
        [
            "typo.json:2: train.stepz: unknown key",
            "did you mean 'train.steps'",
            "typo.json:3: model.width",
            '"wide"',
            "whole number",
        ],
        ["correct each of them"],
    ),
    "broken config": config("--config broken.json", ["broken.json"], [""]),
    "many mistakes": config("--config many.json", ["key0", "more"], ["correct each"]),
    "missing config": config("--config nosuch.json", ["nosuch.json", "no such config file"], ["--config"]),
    "unknown key": config("--set train.stps=3", ["--set train.stps=3", "did you mean 'train.steps'"], ["correct"]),
    "wrong type": config("--set train.steps=many", ["train.steps", '"many"', "whole number"], ["correct"]),
    "no value": config("--set train.steps", ["--set train.steps", "no '='", "key=value"], ["correct"]),
    "unknown preset": config("--preset dbug", ["'dbug'", "debug, tiny, small"], ["--preset debug"]),
    # The command line.
    "unknown device": usage("pretrain --preset debug --device tpu", ["'tpu' is not a device"], ["cpu"]),
    "absent device": usage("pretrain --preset debug --device cuda:99", ["no device 'cuda:99' here"], ["--device cpu"]),
    "unknown option": usage("pretrain --prest tiny", ["--prest"], ["omnictl pretrain --help"]),
    "wrong number": usage("pretrain --max-steps some", ["--max-steps"], ["omnictl pretrain --help"]),
    "no steps": usage("pretrain --max-steps 0", ["--max-steps", "1"], ["omnictl pretrain --help"]),
    "unknown command": usage("evla", ["'evla'", "'eval'"], ["omnictl --help"]),
    "name with a slash": usage("pretrain --name a/b", ["--name", "'a/b'"], ["letters", "--runs"]),
    "endless name": usage(f"pretrain --name {'x' * 300}", ["--name"], ["up to 100"]),
    "preset of a resumed run": usage("pretrain --resume latest --preset debug", ["--preset", "--resume"], ["--init"]),
    "seed of a resumed run": usage("pretrain --resume latest --seed 0", ["--seed", "--resume"], ["--init"]),
    "missing stage": usage("eval", ["stage"], ["omnictl eval --help"]),
    "unknown stage": usage("eval pretrian", ["'pretrian'", "pretrain"], ["name one of these"]),
    "unknown split": usage("eval pretrain --split dev", ["--split", "'test'"], ["omnictl eval --help"]),
    "temperature below zero": usage("chat --text hi --temperature -1", ["--temperature"], ["omnictl chat --help"]),
    # Runs that there are not, and where none can be.
    "run root is a file": run("pretrain --preset debug --runs afile", ["afile", "ot a directory"], ["--runs DIR"]),
    "run root in a place that is none": run("pretrain --preset debug --runs /proc/runs", ["/proc/runs"], ["--runs DIR"]),
    "nothing to judge": run("eval pretrain", ["no finished run of stage `pretrain`"], ["omnictl pretrain"]),
    "nobody to talk to": run("chat --text hi", ["no finished run of stage `sft` or `pretrain`"], ["omnictl pipeline"]),
    "nothing to resume": run("pretrain --resume latest", ["no run of stage `pretrain`"], ["omnictl pretrain"]),
    "unknown run": run("eval pretrain --run best", ["no run 'best' of stage `pretrain`"], ["path"]),
    "unknown parent": run("pretrain --preset debug --init best", ["no run 'best'"], ["path"]),
    "folder that is no run": run("chat --text hi --run nothing_here", ["no run 'nothing_here'"], ["path"]),
}

PARAMETERS = [pytest.param(case, id=name) for name, case in CASES.items()]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", PARAMETERS)
def test_one_screen_with_the_fix_and_nothing_written(omnictl: Command, runs: Path, case: Case) -> None:
    ended = omnictl(*case.arguments.split())
    assert ended.code == case.code
    assert ended.out in ("", "reading the data …\n")
    assert len(ended.err.splitlines()) <= MOST_LINES
    assert "Traceback" not in ended.err
    said, fix = ended.err.split("\nfix: ")
    assert said.startswith("error")
    assert [word for word in case.message if word not in said] == []
    assert [word for word in case.fix if word not in fix] == []
    assert not runs.exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", PARAMETERS)
def test_the_same_as_one_json_object(omnictl: Command, runs: Path, case: Case) -> None:
    ended = omnictl(*case.arguments.split(), "--json")
    assert ended.code == case.code
    assert list(ended.json) == ["error"]
    error = ended.json["error"]
    assert list(error) == ["kind", "exit_code", "where", "message", "fix"]
    assert (error["kind"], error["exit_code"]) == (case.kind, case.code)
    said = f"{error['where']} {error['message']}"
    assert [word for word in case.message if word not in said and word != "more"] == []
    assert [word for word in case.fix if word not in error["fix"]] == []
    assert f"fix: {error['fix']}" in ended.err  # people read it too
    assert not runs.exists()


def test_programs_get_every_mistake(omnictl: Command, files: None) -> None:
    message = omnictl("pretrain", "--config", "many.json", "--json").json["error"]["message"]
    assert len(message.splitlines()) == 100


def test_an_unfinished_run_is_no_run_to_judge(omnictl: Command, trained: Path) -> None:
    Run(trained).update(status="interrupted")
    assert omnictl("eval", "pretrain").code == 4
    assert omnictl("eval", "pretrain", "--run", trained, "--limit", 1).code == 0  # unless it is named


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--data", "~nosuchuser/x"], 3, "names a user that this machine does not have"),
        (["--max-steps", 10**30], 2, "less than or equal to 1000000000"),
    ],
)
def test_what_no_machine_has_is_refused_at_once(omnictl: Command, arguments: list[object], code: int, said: str) -> None:
    ended = omnictl("pretrain", "--preset", "debug", *arguments)
    assert ended.code == code
    assert said in ended.err.replace("\n", " ")
