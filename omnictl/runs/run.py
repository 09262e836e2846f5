"""One run of one stage: its directory, its record, its lock; and finding runs again.

runs/pretrain/2026-11-22_14-05-09_tiny/
  run.json  config.json  metrics.jsonl  timings.jsonl  checkpoints/  model/  best.json  latest.json
"""

import datetime
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from omnictl.errors import OmniError, RunError, UsageError
from omnictl.runs.checksums import describe_file
from omnictl.runs.files import read_json, sync_dir, write_json, write_text, writing
from omnictl.runs.run_references import find_place, place_in

Status = Literal["running", "finished", "interrupted", "failed"]

LOCAL_TIME = "%Y-%m-%d_%H-%M-%S"
LOCAL_TIME_LEN = len("2026-11-22_14-05-09")

LONGEST_NAME = 100
"""Characters of a run's name."""

CHECKSUM = "sha256"
"""A field of the record: the SHA-256 of all the others. Records of before there were checksums have none."""

CONFIG_CHECKSUM = "config_sha256"
"""A field of the record: that of `config.json`."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run directory. Every path in it is a property, so that none is spelled twice."""

    path: Path

    @property
    def stage(self) -> str:
        """Name of the stage that made it."""
        return str(self.record()["stage"])

    @property
    def root(self) -> Path:
        """The folder of all runs that it lies in, absolute."""
        return self.path.absolute().parent.parent

    @property
    def whole_config_file(self) -> Path:
        """Of a run whose training was too short for all of its data: the config with all of it."""
        return self.path / "whole_config.json"

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def metrics_file(self) -> Path:
        """One line a logged step, only what is deterministic."""
        return self.path / "metrics.jsonl"

    @property
    def timings_file(self) -> Path:
        """Speed and memory, one line a logged step."""
        return self.path / "timings.jsonl"

    @property
    def bad_steps_file(self) -> Path:
        """Steps that were not finite or far out, one line each with their examples; none, no file."""
        return self.path / "bad_steps.jsonl"

    @property
    def samples_file(self) -> Path:
        """The same few examples at each validation, one line a validation."""
        return self.path / "samples.jsonl"

    @property
    def samples(self) -> Path:
        """Images and audio that `samples.jsonl` names."""
        return self.path / "samples"

    @property
    def quarantine_file(self) -> Path:
        """Rows of the data that were set aside, one line each."""
        return self.path / "quarantine.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-…` folders."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The deliverable: the best weights on the validation split, config and tokenizer."""
        return self.path / "model"

    @property
    def evaluations(self) -> Path:
        """Reports and predictions."""
        return self.path / "eval"

    @property
    def page(self) -> Path:
        """One offline page to look at: numbers, curves, samples."""
        return self.path / "report.html"

    def record(self) -> dict[str, Any]:
        """The contents of `run.json`, with absolute paths of the parents wherever the folder of all runs is now.

        Raises:
            RunError: it cannot be read, is no record, or is not as it was written.
        """
        record = read_json(self.path / "run.json")
        if not isinstance(record, dict) or "stage" not in record or "status" not in record:
            raise RunError(
                f"{self.path}/run.json is not the record of a run",
                where=str(self.path),
                fix="name a run directory, such as runs/pretrain/2026-11-22_14-05-09_tiny",
            )
        checksum = record.pop(CHECKSUM, None)
        if checksum is not None and checksum != _checksum(record):
            raise RunError(
                f"{self.path}/run.json is damaged: its values are not those that were written",
                where=f"{self.path}/run.json",
                fix=f"copy the run anew from where it is whole; if you changed it on purpose, take its line {CHECKSUM!r} out",
            )
        if "parents" in record:
            record["parents"] = {name: str(find_place(self.root, place)) for name, place in record["parents"].items()}
        return record

    def update(self, **fields: object) -> None:
        """Overwrite some fields of the record; an error is of a run that failed, and goes when that is gone on with."""
        record = {**self.record(), **fields}
        if record["status"] != "failed":
            record.pop("error", None)
        self._write_record(record)

    def _write_record(self, record: dict[str, Any]) -> None:
        if "parents" in record:
            places = {name: place_in(self.root, Path(path)) for name, path in record["parents"].items()}
            record = {**record, "parents": places}
        write_json(self.path / "run.json", {**record, CHECKSUM: _checksum(record)})

    def write_config(self, text: str) -> None:
        """Write the config, and its checksum into the record.

        Raises:
            DiskFull: no space left.
            RunError: the folder is read-only.
        """
        write_text(self.config_file, text)
        self.update(**{CONFIG_CHECKSUM: describe_file(self.config_file)["sha256"]})

    def check_config(self) -> None:
        """Refuse a config that is not as it was written.

        Raises:
            RunError: it is not, or it cannot be read.
        """
        expected = self.record().get(CONFIG_CHECKSUM)
        if expected is None:
            return
        fix = "copy the run anew from where it is whole; to train with other settings, start a new run with --config"
        try:
            found = describe_file(self.config_file)["sha256"]
        except OSError as error:
            raise RunError(f"cannot read {self.config_file}: {error.strerror}", where=str(self.config_file), fix=fix) from error
        if found != expected:
            raise RunError(
                f"{self.config_file} is damaged: its SHA-256 is not the one that run.json beside it gives",
                where=str(self.config_file),
                fix=fix,
            )

    def is_locked(self) -> bool:
        """Whether a process holds it for writing."""
        if not (self.path / ".lock").is_file():
            return False
        try:
            with FileLock(self.path / ".lock", timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # a read-only disk: nobody can write
            return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; the system lets go of it when the process dies, however it dies.

        Raises:
            RunError: another process writes to it, or the folder is read-only.
        """
        lock = FileLock(self.path / ".lock")
        with writing(self.path):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise RunError(
                    f"another process is writing to {self.path}",
                    where=str(self.path),
                    fix="wait for it or stop it, or start a new run without --resume",
                ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def record_end(self) -> Iterator[None]:
        """Note in the record that the block was interrupted, or why it failed; its exception is raised again."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.update(status="interrupted")
            raise
        except Exception as error:
            with suppress(OmniError):  # the disk is full or read-only: the error on its way says so
                self.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise


def _checksum(record: dict[str, Any]) -> str:
    """Of the values that come back from JSON: keys are texts there."""
    values = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def create_run(root: Path, stage: str, name: str, record: dict[str, object]) -> Run:
    """Make a new run directory `root/stage/TIME_name`.

    Raises:
        UsageError: the name does not suit a folder.
        RunError: the root cannot be written.
        DiskFull: no space left.
    """
    check_name(name)
    now = datetime.datetime.now(datetime.UTC)
    time = now.astimezone().strftime(LOCAL_TIME)
    before = max((created_at(run) for run in list_runs(root, stage)), default=now)
    created = max(now, before + datetime.timedelta(microseconds=1))  # a clock that was set back changes no order
    with writing(root):
        path = _fresh_folder(root / stage, f"{time}_{name}")
        run = Run(path)
        run.checkpoints.mkdir()
        for folder in (path.parent, root, root.absolute().parent):
            sync_dir(folder)
    times = {"created": time, "created_utc": created.isoformat(timespec="microseconds")}
    try:
        run._write_record({"stage": stage, "name": name, "status": "running", **times, **record})
    except OmniError:  # half a run is none
        shutil.rmtree(path)
        raise
    return run


def check_name(name: str) -> None:
    """Refuse a run's name that does not suit a folder.

    Raises:
        UsageError: it is empty, too long, or has other characters.
    """
    if not re.fullmatch(rf"[\w.+-]{{1,{LONGEST_NAME}}}", name):
        raise UsageError(
            f"the run's name {name!r} does not suit a folder",
            where="--name",
            fix=f"use up to {LONGEST_NAME} letters, digits, '.', '_', '+' and '-'; --runs DIR says where runs go",
        )


def _fresh_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for suffix in ["", *(f"-{n}" for n in range(2, 1000))]:
        path = parent / f"{name}{suffix}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError(f"a thousand runs named {name} within one second")


def list_runs(root: Path, stage: str) -> list[Run]:
    """All runs of a stage below `root`, newest first, whatever the time zones they were made in; a newer one that cannot be read
    is named in the log."""
    folder = root / stage
    if not folder.is_dir():
        return []
    runs: list[tuple[datetime.datetime, str, Run]] = []
    damaged: list[tuple[datetime.datetime, str]] = []
    for path in folder.iterdir():
        try:
            runs.append((created_at(Run(path)), path.name, Run(path)))
        except RunError as error:
            if (path / "run.json").exists() or Run(path).checkpoints.is_dir():  # else it is something else
                damaged.append((_time_of_folder(path), error.message))
    runs.sort(key=lambda item: item[:2], reverse=True)
    for time, problem in damaged:
        if not runs or time >= runs[0][0].replace(microsecond=0):
            _tell_damage(problem)
    return [run for _, _, run in runs]


@lru_cache
def _tell_damage(problem: str) -> None:
    """Once a process."""
    logger.warning("passed over: %s", problem)


def created_at(run: Run) -> datetime.datetime:
    """When a run was made.

    Raises:
        RunError: its record cannot be read.
    """
    record = run.record()
    try:
        return datetime.datetime.fromisoformat(record["created_utc"]).astimezone(datetime.UTC)
    except (KeyError, TypeError, ValueError, OverflowError):  # an older run knows its local time alone
        return _time_of_folder(run.path, str(record.get("created", "")))


def _time_of_folder(path: Path, local: str = "") -> datetime.datetime:
    """The local time that a run's record or folder is named by, else when its folder was last changed."""
    for text in (local, path.name):
        try:
            return datetime.datetime.strptime(text[:LOCAL_TIME_LEN], LOCAL_TIME).astimezone(datetime.UTC)
        except (ValueError, OverflowError, OSError):
            continue
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def find_run(root: Path, stage: str, reference: str) -> Run:
    """The run that `--run`/`--resume` names: `latest`, its stage for the newest finished one, or as `runs_called` finds it.

    Raises:
        RunError: there is none, there are several, or it belongs to another stage.
    """
    if reference == "latest":
        return newest_run(root, stage)
    if reference == stage:
        return newest_run(root, stage, "finished")
    found = runs_called(root, stage, reference)
    if len(found) == 1:
        if found[0].stage != stage:
            raise RunError(
                f"{found[0].path} is a run of `{found[0].stage}`, expected one of `{stage}`",
                where=reference,
                fix=f"name a run below {root / stage}",
            )
        return found[0]
    listed = ", ".join(run.path.name for run in (found or list_runs(root, stage))[:3]) or "none"
    none, several = f"no run {reference!r} of stage `{stage}`", f"{len(found)} runs of stage `{stage}` are called {reference!r}"
    raise RunError(
        f"{several if found else none}; the newest in {root / stage}: {listed}",
        where=reference,
        fix="name one by its folder" if found else f"give a run's path, or make one with `omnictl {stage}`",
    )


def runs_called(root: Path, stage: str, reference: str) -> list[Run]:
    """The run at a path, as `STAGE/FOLDER` or by its folder, whatever its stage; else all of the stage with such a `--name`."""
    for path in (Path(reference), root / reference, root / stage / reference):
        if (path / "run.json").is_file():
            return [Run(path)]
    return [run for run in list_runs(root, stage) if run.record().get("name") == reference]


def run_of_job(root: Path, stage: str, job: str | None) -> Run | None:
    """The newest run of a stage that was begun by a job, whose processes may have been started again since; None without one."""
    if job is None:
        return None
    return next((run for run in list_runs(root, stage) if run.record().get("job") == job), None)


def newest_run(root: Path, stage: str, *statuses: Status) -> Run:
    """The newest run of a stage, of the given statuses only if any are given.

    Raises:
        RunError: there is none.
    """
    for run in list_runs(root, stage):
        if not statuses or run.record()["status"] in statuses:
            return run
    kind = f"{' or '.join(statuses)} " if statuses else ""
    raise RunError(f"no {kind}run of stage `{stage}` in {root}", where=str(root), fix=f"make one with `omnictl {stage}`")
