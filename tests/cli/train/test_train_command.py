import io
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import omnictl as package
from omnictl.cli.train.progress import TrainingProgress
from omnictl.config import to_json
from omnictl.runs.run import Run
from omnictl.stages.pretrain import PRESETS
from omnictl.trainer import trainer
from omnictl.trainer.log import StepRecord

Command = Callable[..., Any]

DEBUG = ("pretrain", "--preset", "debug")


def only_run(runs: Path) -> Run:
    (path,) = (runs / "pretrain").iterdir()
    return Run(path)


def send_at(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: signal.Signals) -> None:
    """Send this process signals after a step."""
    really = TrainingProgress.step

    def watched(progress: TrainingProgress, record: StepRecord) -> None:
        really(progress, record)
        if record.step == step:
            for number in numbers:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(TrainingProgress, "step", watched)


def test_the_result_says_what_came_out_and_what_to_do_next(omnictl: Command, runs: Path) -> None:
    ended = omnictl(*DEBUG)
    path = only_run(runs).path
    assert (ended.code, ended.err) == (0, "")
    assert "finished 20 steps" in ended.out
    assert "perplexity" in ended.out
    assert f"omnictl eval pretrain --run {path}" in ended.out
    assert f"omnictl chat --run {path}" in ended.out


def test_json_has_one_object_with_the_result(omnictl: Command, runs: Path) -> None:
    ended = omnictl(*DEBUG, "--json")
    result = ended.json
    assert ended.code == 0
    assert list(result) == ["stage", "run", "status", "steps", "seconds", "headline", "parents"]
    assert (result["stage"], result["status"], result["steps"], result["parents"]) == ("pretrain", "finished", 20, {})
    assert result["run"] == str(only_run(runs).path)
    assert result["headline"]["name"] == "perplexity"
    assert result["seconds"] > 0
    last = json.loads(only_run(runs).metrics_file.read_text().splitlines()[-1])
    assert result["headline"]["value"] == last["perplexity"]
    assert "parameters" in ended.err  # what people read is on the other stream


@pytest.mark.slow
def test_quiet_prints_the_result_alone(omnictl: Command) -> None:
    ended = omnictl(*DEBUG, "--quiet")
    assert ended.out.startswith("finished 20 steps")
    assert len(ended.out.splitlines()) == 4
    quiet = omnictl(*DEBUG, "--quiet", "--json")
    assert quiet.json["status"] == "finished"
    assert quiet.err == ""


def test_no_control_codes_without_a_terminal(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    ended = omnictl(*DEBUG)
    failed = omnictl("pretrain", "--preset", "nosuch")
    assert "\x1b" not in ended.out + ended.err + failed.out + failed.err
    assert "\r" not in ended.out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_with_speed_and_eta(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert omnictl(*DEBUG).code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "step 20/20" in shown
    for part in ("loss", "tokens/s", "of fp32 peak", "GiB", "ETA", "best so far"):
        assert part in shown


def test_the_record_of_a_run(omnictl: Command, runs: Path) -> None:
    omnictl(*DEBUG, "--name", "first-try")
    run = only_run(runs)
    record = run.record()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_first-try", run.path.name)
    assert record["status"] == "finished"
    assert record["stage"] == "pretrain"
    assert record["command"] == "omnictl pretrain --preset debug --name first-try"
    assert record["versions"]["omnictl"] == package.__version__
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) == {"omnictl", "torch", "python"}
    assert record["device"] == "cpu" or torch.cuda.is_available()
    assert record["precision"][0] in ("fp32", "bf16")
    assert record["parents"] == {}
    assert record["steps"] == 20
    assert json.loads(run.config_file.read_text())["train"]["steps"] == 20


def test_the_run_is_named_after_its_config_file(omnictl: Command, runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "my first try.json"
    file.write_text(to_json(PRESETS["debug"]))
    assert omnictl("pretrain", "--config", file, "--max-steps", 1).code == 0
    assert only_run(runs).path.name.endswith("_my-first-try")


def test_flags_become_the_config(omnictl: Command, runs: Path) -> None:
    omnictl(*DEBUG, "--set", "train.lr=1e-3", "--seed", 7, "--data", "tinyworld:5", "--max-steps", 1)
    config = json.loads(only_run(runs).config_file.read_text())
    assert config["train"]["lr"] == 1e-3
    assert config["train"]["seed"] == 7
    assert config["data"]["source"] == "tinyworld:5"


@pytest.mark.slow
def test_the_seed_decides_the_result(omnictl: Command) -> None:
    fp32 = ("--set", "train.precision=fp32")  # the choice of `auto` is a matter of timing
    values = [omnictl(*DEBUG, *fp32, "--seed", seed, "--json").json["headline"]["value"] for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_saves_and_says_how_to_go_on(
    omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    with monkeypatch.context() as patch:
        send_at(patch, 7, number)
        ended = omnictl(*DEBUG)
    run = only_run(runs)
    assert ended.code == code
    assert "interrupted after step 7, saved" in ended.out
    resume = ended.out.split("omnictl ")[-1].split()
    assert resume == ["pretrain", "--resume", str(run.path)]

    again = omnictl(*resume)
    assert again.code == 0
    assert "going on after step 7" in again.out
    assert run.record()["status"] == "finished"


def test_an_interrupted_run_is_a_result_in_json_too(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    send_at(monkeypatch, 7, signal.SIGINT)
    ended = omnictl(*DEBUG, "--json")
    assert (ended.code, ended.json["status"], ended.json["steps"]) == (130, "interrupted", 7)


def test_a_second_interrupt_is_an_error_that_says_what_is_left(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        send_at(patch, 7, signal.SIGINT, signal.SIGINT)
        ended = omnictl(*DEBUG, "--json")
    error = ended.json["error"]
    assert (ended.code, error["kind"], error["exit_code"]) == (130, "interrupted", 130)
    assert "--resume latest" in error["fix"]
    assert "Traceback" not in ended.err
    assert omnictl("pretrain", "--resume", "latest", "--json").json["steps"] == 20


def test_resuming_a_finished_run_says_so_and_how_to_train_longer(omnictl: Command, trained: Path) -> None:
    ended = omnictl("pretrain", "--resume", "latest")
    assert ended.code == 0
    assert "finished already, at step 20" in ended.out
    assert f"omnictl pretrain --resume {trained} --max-steps" in ended.out
    longer = omnictl("pretrain", "--resume", "latest", "--max-steps", 22, "--json")
    assert (longer.json["status"], longer.json["steps"]) == ("finished", 22)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")  # what is slow the first time is behind us
def test_max_minutes_end_the_run_in_time(omnictl: Command) -> None:
    ended = omnictl(*DEBUG, "--set", "train.steps=1000000", "--set", "train.save_every=1000000", "--max-minutes", 0.05, "--json")
    assert ended.json["status"] == "finished"
    assert 0 < ended.json["steps"] < 1_000_000
    assert ended.json["seconds"] < 4


def test_init_starts_from_the_weights_of_another_run(omnictl: Command, trained: Path, runs: Path) -> None:
    before = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])["perplexity"]
    precision, *_ = json.loads((trained / "run.json").read_text())["precision"]  # `auto` times it, and may choose anew
    ended = omnictl(*DEBUG, "--set", f"train.precision={precision}", "--init", trained.name, "--max-steps", 1, "--json")
    assert ended.json["parents"] == {"init": str(trained)}
    first = json.loads((Path(ended.json["run"]) / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 0
    assert first["perplexity"] == pytest.approx(before)


def test_a_run_goes_on_without_the_run_it_started_from(omnictl: Command, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        send_at(patch, 7, signal.SIGINT)
        path = omnictl(*DEBUG, "--init", trained, "--json").json["run"]
    shutil.rmtree(trained)
    assert omnictl("pretrain", "--resume", path).code == 0


def write(path: Path, prose: str) -> None:
    documents = prose.split("\n\n\n")
    if path.suffix == ".txt":
        path.write_text(prose)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"text": documents}), path)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_text_of_the_users_own(omnictl: Command, tmp_path: Path, prose: str, suffix: str) -> None:
    write(tmp_path / f"my{suffix}", prose)
    assert omnictl(*DEBUG, "--data", f"my{suffix}").code == 0
    report = omnictl("eval", "pretrain", "--limit", 3, "--json").json
    assert report["metrics"]["bits_per_byte"] > 0
    assert "excess_ratio" not in report["metrics"]  # only TinyWorld knows its limit
    answer = omnictl("chat", "--text", "Ada found the", "--max-tokens", 5, "--seed", 1, "--json").json
    assert answer["tokens"]["new"] <= 5


def test_a_run_finds_its_data_from_another_folder(
    omnictl: Command, tmp_path: Path, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.txt").write_text(prose)
    omnictl(*DEBUG, "--data", "my.txt", "--max-steps", 1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert omnictl("pretrain", "--resume", "latest", "--max-steps", 2).code == 0
    assert omnictl("eval", "pretrain").code == 0


@pytest.mark.slow
def test_real_text_trains_evaluates_and_chats(omnictl: Command, test_data: Path) -> None:
    assert omnictl(*DEBUG, "--data", test_data / "text" / "wikitext2_valid.txt").code == 0
    metrics = omnictl("eval", "pretrain", "--limit", 20, "--json").json["metrics"]
    assert 1 < metrics["bits_per_byte"] < 8
    ended = omnictl("chat", "--text", "The game was released in", "--max-tokens", 20, "--seed", 3)
    assert ended.code == 0


def test_a_run_that_diverges_says_what_to_change(omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "normalise", lambda parameters, count, clip_norm: float("nan"))
    ended = omnictl(*DEBUG, "--json")
    error = ended.json["error"]
    assert (ended.code, error["kind"]) == (6, "diverged")
    assert "step 3" in error["message"]
    assert "gradient norm nan" in error["message"]
    assert "--set train.lr=" in error["fix"]
    assert only_run(runs).record()["status"] == "failed"
