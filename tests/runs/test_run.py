import datetime as datetime_module
import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omnictl.errors import RunError, UsageError
from omnictl.runs.files import write_json
from omnictl.runs.run import Run, create_run, find_run, list_runs, newest_run


def made(root: Path, name: str, created: str, status: str = "finished", stage: str = "pretrain") -> Run:
    run = create_run(root, stage, name, {})
    run.update(created_utc=f"{created}T12:00:00+00:00", status=status)
    return run


def test_a_new_run_has_a_record_and_says_when(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {"seed": 3})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_tiny", run.path.name)
    assert run.path.parent == tmp_path / "pretrain"
    assert run.stage == "pretrain"
    record = run.record()
    assert record["status"] == "running"
    assert record["seed"] == 3
    assert run.path.name == f"{record['created']}_tiny"
    assert run.checkpoints.is_dir()


def test_runs_of_one_second_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noon(datetime_module.datetime):
        @classmethod
        def now(cls, tz: datetime_module.tzinfo | None = None) -> "Noon":
            return cls(2026, 1, 2, 12, 0, 0).replace(tzinfo=tz)

    monkeypatch.setattr("omnictl.runs.run.datetime.datetime", Noon)
    names = [create_run(tmp_path, "pretrain", "tiny", {}).path.name for _ in range(3)]
    assert names == ["2026-01-02_12-00-00_tiny", "2026-01-02_12-00-00_tiny-2", "2026-01-02_12-00-00_tiny-3"]
    assert [run.path.name for run in list_runs(tmp_path, "pretrain")] == names[::-1]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "ä:ö", "a" * 101])
def test_a_name_must_suit_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        create_run(tmp_path, "pretrain", name, {})
    assert caught.value.message == f"the run's name {name!r} does not suit a folder"
    assert caught.value.where == "--name"
    assert caught.value.fix == "use up to 100 letters, digits, '.', '_', '+' and '-'; --runs DIR says where runs go"
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError) as caught:
        create_run(tmp_path, "pretrain", "tiny", {})
    assert caught.value.message == f"cannot write to {tmp_path}: Read-only file system"
    assert caught.value.fix == "make the folder writable, or choose another with --runs DIR"


def test_updating_keeps_the_other_fields(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {"seed": 3})
    run.update(status="finished", steps=20)
    assert run.record() | {"created": "", "created_utc": ""} == {
        "stage": "pretrain",
        "name": "tiny",
        "status": "finished",
        "created": "",
        "created_utc": "",
        "seed": 3,
        "steps": 20,
    }


def test_an_error_is_forgotten_when_the_run_is_gone_on_with(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {})
    with pytest.raises(ValueError, match="oops"), run.record_end():
        raise ValueError("oops")
    assert run.record()["error"] == "ValueError: oops"
    run.update(plan={})
    assert run.record()["error"] == "ValueError: oops"
    run.update(status="running")
    assert "error" not in run.record()


@pytest.mark.parametrize("content", ["[]", "{}", '{"stage": "pretrain"}'])
def test_a_record_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError) as caught:
        Run(tmp_path).record()
    assert caught.value.message == f"{tmp_path}/run.json is not the record of a run"


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    old, new, other = (made(tmp_path, name, f"2026-01-0{day}") for name, day in (("c", 1), ("a", 3), ("b", 2)))
    (tmp_path / "pretrain" / "not a run").mkdir()
    assert list_runs(tmp_path, "pretrain") == [new, other, old]
    assert newest_run(tmp_path, "pretrain") == find_run(tmp_path, "pretrain", "latest") == new
    assert list_runs(tmp_path, "asr") == []


def test_the_newest_is_so_whatever_time_zones_and_clocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Los Angeles it is earlier by the clock on the wall than it was in Tokyo a moment before."""
    runs = []
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        runs.append(create_run(tmp_path, "pretrain", "x", {}))
    monkeypatch.undo()
    time.tzset()
    assert runs[0].path.name > runs[1].path.name
    assert list_runs(tmp_path, "pretrain") == runs[::-1]
    runs[1].update(created_utc="2999-01-01T00:00:00+00:00")  # the clock is set back afterwards
    assert newest_run(tmp_path, "pretrain") == runs[1]
    assert newest_run(tmp_path, "pretrain") != create_run(tmp_path, "pretrain", "y", {})
    assert newest_run(tmp_path, "pretrain").record()["name"] == "y"


def test_runs_that_know_only_their_local_time_keep_their_order(tmp_path: Path) -> None:
    runs = [made(tmp_path, name, "2026-01-01") for name in "ab"]
    for run, local in zip(runs, ("2026-01-02_10-00-00", "2026-01-01_10-00-00"), strict=True):
        record = {key: value for key, value in run.record().items() if key != "created_utc"}
        write_json(run.path / "run.json", {**record, "created": local})
    assert list_runs(tmp_path, "pretrain") == runs


def test_a_damaged_run_is_named_if_it_is_the_newest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = (create_run(tmp_path, "pretrain", name, {}) for name in ("old", "new"))
    (new.path / "run.json").write_bytes(b"\0" * 300)
    assert newest_run(tmp_path, "pretrain") == old
    assert [record.getMessage().partition(": Expecting")[0] for record in caplog.records] == [
        f"passed over: cannot read {new.path}/run.json"
    ]
    caplog.clear()
    (old.path / "run.json").unlink()
    newer = create_run(tmp_path, "pretrain", "newer", {})
    future = tmp_path / "pretrain" / "2999-01-01_00-00-00_x"
    newer.path.rename(future)
    assert newest_run(tmp_path, "pretrain") == Run(future)


def test_the_newest_of_a_status(tmp_path: Path) -> None:
    finished = made(tmp_path, "a", "2026-01-01")
    stopped = made(tmp_path, "b", "2026-01-02", status="interrupted")
    made(tmp_path, "c", "2026-01-03", status="running")
    assert newest_run(tmp_path, "pretrain", "finished") == finished
    assert newest_run(tmp_path, "pretrain", "finished", "interrupted") == stopped
    with pytest.raises(RunError) as caught:
        newest_run(tmp_path, "pretrain", "failed")
    assert caught.value.message == f"no failed run of stage `pretrain` in {tmp_path}"
    assert caught.value.fix == "make one with `omnictl pretrain`"


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, "pretrain", "latest")
    assert caught.value.message == f"no run of stage `pretrain` in {tmp_path}"
    assert caught.value.exit_code == 4


def test_a_run_has_several_names(tmp_path: Path) -> None:
    run = made(tmp_path, "a", "2026-01-01")
    made(tmp_path, "b", "2026-01-02", "interrupted")
    made(tmp_path, "a", "2026-01-03", stage="asr")
    for reference in (str(run.path), run.path.name, f"pretrain/{run.path.name}", "a", "pretrain"):
        assert find_run(tmp_path, "pretrain", reference).path == run.path, reference


def test_a_name_of_several_runs(tmp_path: Path) -> None:
    names = [made(tmp_path, "a", f"2026-01-0{day}").path.name for day in (1, 2)]
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, "pretrain", "a")
    assert caught.value.message.startswith("2 runs of stage `pretrain` are called 'a'; the newest in ")
    assert caught.value.message.endswith(f": {names[1]}, {names[0]}")
    assert caught.value.fix == "name one by its folder"


def test_an_unknown_run_lists_the_newest(tmp_path: Path) -> None:
    names = [made(tmp_path, f"r{day}", f"2026-01-0{day}").path.name for day in range(1, 6)]
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, "pretrain", "typo")
    newest = ", ".join(names[:1:-1])
    assert caught.value.message == (f"no run 'typo' of stage `pretrain`; the newest in {tmp_path / 'pretrain'}: {newest}")
    assert caught.value.fix == "give a run's path, or make one with `omnictl pretrain`"
    with pytest.raises(RunError, match=r"the newest in .*: none$"):
        find_run(tmp_path, "asr", "typo")


def test_a_run_of_another_stage_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path, "a", "2026-01-01", stage="asr")
    with pytest.raises(RunError) as caught:
        find_run(tmp_path, "pretrain", str(run.path))
    assert caught.value.message == f"{run.path} is a run of `asr`, expected one of `pretrain`"
    assert caught.value.fix == f"name a run below {tmp_path / 'pretrain'}"
    with pytest.raises(RunError, match="is a run of `asr`, expected one of `pretrain`"):
        find_run(tmp_path, "pretrain", f"asr/{run.path.name}")


HOLDER = """
import sys
import time
from pathlib import Path
from omnictl.runs.run import Run
with Run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_writer_at_a_time_and_no_stale_lock(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError) as caught, run.lock():
            pass
        holder.kill()  # no chance to clean up
    assert caught.value.message == f"another process is writing to {run.path}"
    assert caught.value.exit_code == 4
    assert caught.value.fix == "wait for it or stop it, or start a new run without --resume"
    with run.lock():
        assert json.loads((run.path / "run.json").read_text())["status"] == "running"


def test_the_lock_is_let_go_of_after_an_error(tmp_path: Path) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {})
    with pytest.raises(ValueError, match="oops"), run.lock():
        raise ValueError("oops")
    with run.lock():
        pass


def test_a_run_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(tmp_path, "pretrain", "tiny", {})
    original = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError) as caught, run.lock():
        pass
    assert caught.value.message == f"cannot write to {run.path}: Permission denied"
