"""`omnictl doctor`, and its brief look in front of a first training."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from omnictl.measure.doctor import machine, software
from omnictl.measure.doctor.finding import Finding, fail, ok, warn

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Software is well, and nothing is timed."""
    monkeypatch.setattr(software, "examine_software", lambda: iter([ok("Python", "3.12"), ok("wheels", "torch 2")]))


def examination(*findings: Finding) -> Callable[..., Iterator[Finding]]:
    return lambda runs, cache, device, measured=True: iter(findings)


def test_every_line_has_its_level_and_its_fix(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "examine_machine", examination(ok("GPU", "none"), warn("threads", "idle", "unset [X]")))
    ended = omnictl("doctor")
    assert ended.code == 0
    assert "warn threads       idle" in ended.out
    assert "fix: unset [X]" in ended.out
    assert "3 ok, 1 warn, 0 fail" in ended.out


def test_what_fails_is_the_error(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "examine_machine", examination(fail("runs", "the disk is full", "free some space")))
    ended = omnictl("doctor", "--json")
    assert ended.code == 8
    assert (ended.json["ok"], ended.json["warn"], ended.json["fail"]) == (2, 0, 1)
    assert ended.json["findings"][2] == {
        "subject": "runs",
        "level": "fail",
        "message": "the disk is full",
        "fix": "free some space",
    }
    assert ended.json["error"]["kind"] == "machine"
    assert ended.json["error"]["fix"] == "free some space"


def test_torch_that_cannot_start_is_named_before_it_is_used(omnictl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [ok("Python", "3.12"), fail("wheels", "torch cannot be imported", "reinstall it")]
    monkeypatch.setattr(software, "examine_software", lambda: iter(broken))
    monkeypatch.setattr(machine, "examine_machine", None)  # is not asked
    assert omnictl("doctor").code == 8


def test_a_first_training_is_looked_at_and_a_second_is_not(
    omnictl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "examine_machine", examination(ok("GPU", "none"), warn("memory", "3 GiB are free", "close some")))
    command = ("pretrain", "--preset", "debug", "--max-steps", "1")
    refused = omnictl(*command, "--data", tmp_path / "missing.txt")
    assert refused.code == 3  # what was given comes first
    assert "warn memory" not in refused.out
    first = omnictl(*command)
    assert first.code == 0  # it stops nothing
    assert "warn memory        3 GiB are free" in first.out
    assert "ok   GPU" not in first.out
    assert "warn memory" not in omnictl(*command).out
