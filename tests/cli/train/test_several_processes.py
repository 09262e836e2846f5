"""Commands under `torchrun`, as a user starts them: one run, one voice, and going on by the job's name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnictl.cli.app import run
from omnictl.runs.run import create_run, list_runs, run_of_job


def launch(*arguments: str, job: str) -> subprocess.CompletedProcess[str]:
    """An omnictl command in two processes of one thread each."""
    start = ["--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", job]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *start, "-m", "omnictl", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_make_one_run_and_say_it_once_and_their_job_goes_on_with_it(tmp_path: Path) -> None:
    ended = launch("pretrain", "--preset", "debug", "--json", "--runs", str(tmp_path), job="one")
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    result = json.loads(line)
    assert (result["status"], result["steps"]) == ("finished", 20)
    (made,) = list_runs(tmp_path, "pretrain")
    record = made.record()
    assert (record["status"], record["processes"], record["job"]) == ("finished", 2, "one")
    assert (made.model / "model.safetensors").is_file()
    assert ended.stderr.count("parameters") == 1

    again = launch("pretrain", "--preset", "debug", "--json", "--runs", str(tmp_path), "--max-steps", "23", job="one")
    assert (json.loads(again.stdout)["run"], json.loads(again.stdout)["steps"]) == (str(made.path), 23)
    assert len(list_runs(tmp_path, "pretrain")) == 1


def test_a_run_is_found_by_its_job_alone(tmp_path: Path) -> None:
    for job in ("one", "other"):
        create_run(tmp_path, "pretrain", job, {"job": job})
    create_run(tmp_path, "pretrain", "nobody", {})
    found = run_of_job(tmp_path, "pretrain", "one")
    assert found is not None
    assert found.record()["name"] == "one"
    assert run_of_job(tmp_path, "pretrain", "third") is None
    assert run_of_job(tmp_path, "asr", "one") is None
    assert run_of_job(tmp_path, "pretrain", None) is None


@pytest.mark.slow
def test_a_talker_and_its_parts_are_trained_together(tmp_path: Path) -> None:
    ended = launch("talker", "--preset", "debug", "--json", "--quiet", "--runs", str(tmp_path), job="voice")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["status"] == "finished"
    assert [len(list_runs(tmp_path, part)) for part in ("codec", "aligner", "talker")] == [1, 1, 1]


@pytest.mark.slow
def test_what_one_process_cannot_do_is_said_once(tmp_path: Path) -> None:
    ended = launch("pretrain", "--preset", "debug", "--json", "--data", "nowhere.txt", "--runs", str(tmp_path), job="wrong")
    assert ended.returncode != 0
    assert json.loads(ended.stdout)["error"]["kind"] == "data"
    assert ended.stderr.count("nowhere.txt") == 1


def test_a_pipeline_is_no_work_for_several_processes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["pipeline", "--preset", "debug", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == "a pipeline runs in one process, not in those of torchrun"
