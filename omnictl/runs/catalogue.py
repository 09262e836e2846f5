"""All runs below one folder: finding one by any of its names, what it came to in a line, and who is made of whom."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from omnictl.errors import RunError
from omnictl.runs.files import read_json
from omnictl.runs.log_file import read_lines
from omnictl.runs.run import Run, created_at, list_runs

NEWEST = "latest"

T = TypeVar("T")


class Score(NamedTuple):
    """The metric that a run is judged by."""

    name: str
    value: float
    better: str | None
    """`lower`, `higher`, or None if that cannot be told."""
    low: float | None = None
    """With `high`, the 95 % interval, if it was evaluated."""
    high: float | None = None
    num_examples: int | None = None
    source: str = "validation"
    """`validation` during training, else the evaluation, such as `test`."""

    @property
    def goodness(self) -> float | None:
        """Larger is better; None if that cannot be told."""
        return None if self.better is None else self.value if self.better == "higher" else -self.value


class RunSummary(NamedTuple):
    """A run in a line."""

    run: Run
    stage: str
    name: str
    status: str
    """As its record says; `killed` if that says `running` and nobody writes to it."""
    created: str
    steps: int | None
    score: Score | None
    verdict: str | None
    data: str | None
    """Its source."""

    @property
    def place(self) -> str:
        """How commands name it: `stage/folder`."""
        return f"{self.stage}/{self.run.path.name}"

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        plain = self._asdict() | {"run": str(self.run.path), "place": self.place}
        return plain | {"score": None if self.score is None else self.score._asdict()}


class Catalogue(NamedTuple):
    """The runs of a folder, newest first, and what looks like one and cannot be read."""

    runs: list[Run]
    damaged: list[Path]


def read_catalogue(root: Path) -> Catalogue:
    """All runs of all stages."""
    stages = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    runs = [run for stage in stages for run in list_runs(root, stage)]
    paths = {run.path for run in runs}
    damaged = sorted(file.parent for file in root.glob("*/*/run.json") if file.parent not in paths)
    runs.sort(key=lambda run: (created_at(run), run.path.name), reverse=True)
    return Catalogue(runs, damaged)


def find_any_run(root: Path, reference: str) -> Run:
    """The run that is meant: a path, `STAGE/FOLDER`, a folder's name, `latest`, or a stage for its newest finished run.

    Raises:
        RunError: there is none, or several.
    """
    for path in (Path(reference), root / reference):
        if (path / "run.json").is_file():
            run = Run(path)
            run.record()
            return run
    runs = read_catalogue(root).runs
    if reference == NEWEST and runs:
        return runs[0]
    of_stage = [run for run in runs if run.stage == reference.removesuffix(f"/{NEWEST}")]
    if of_stage:
        finished = [run for run in of_stage if run.record()["status"] == "finished" and not reference.endswith(NEWEST)]
        return (finished or of_stage)[0]
    named = [run for run in runs if run.path.name == reference] or [run for run in runs if run.record().get("name") == reference]
    if len(named) == 1:
        return named[0]
    places = ", ".join(f"{run.stage}/{run.path.name}" for run in (named or runs)[:4]) or "none"
    several = f"{len(named)} runs are called {reference!r}: {places}"
    raise RunError(
        several if named else f"no run {reference!r} in {root}; the newest: {places}",
        where=reference,
        fix="name one as STAGE/FOLDER, by its path, or a stage for its newest run; `omnictl runs list` shows all",
    )


def summarise_all(runs: Iterable[Run]) -> tuple[list[RunSummary], list[Run]]:
    """Runs in a line each, and those of which a file cannot be read, both in their order."""
    summaries, unreadable = list[RunSummary](), list[Run]()
    for run in runs:
        try:
            summaries.append(summarise(run))
        except RunError:
            unreadable.append(run)
    return summaries, unreadable


def summarise(run: Run) -> RunSummary:
    """A run in a line.

    Raises:
        RunError: one of the files that it is read from cannot be read, or is not as it was written.
    """
    record = run.record()
    status = str(record["status"])
    if status == "running" and not is_trained_now(run):
        status = "killed"
    score, verdict = _newest_evaluation(run) or (_validated(run), None)
    name, created = str(record.get("name", "")), str(record.get("created", ""))
    return RunSummary(run, run.stage, name, status, created, _steps(run, record), score, verdict, _data(run))


def is_trained_now(run: Run) -> bool:
    """Whether a process writes to a run, or to one that it is made from: the parts of a Talker, the stages of a pipeline."""
    if run.is_locked():
        return True
    if run.record()["status"] != "running":
        return False
    return any(is_trained_now(parent) for parent in parents_of(run).values())


def parents_of(run: Run) -> dict[str, Run]:
    """The runs that a run is made from, absolute, by what they are to it; those that are gone are left out.

    Where a part of a run's model is named, that run stands for it.
    """
    found: dict[str, Run] = {}
    for name, path in run.record().get("parents", {}).items():
        holder = next((folder for folder in (Path(path), *Path(path).parents) if (folder / "run.json").is_file()), None)
        if holder is not None:
            found[name] = Run(holder)
    return found


def children(runs: Iterable[Run]) -> dict[Path, list[Run]]:
    """By the absolute path of a run those that are made from it."""
    made: dict[Path, list[Run]] = {}
    for run in runs:
        for path in {parent.path for parent in parents_of(run).values()}:
            made.setdefault(path, []).append(run)
    return made


def disk_bytes(run: Run) -> int:
    """What a run takes on the disk."""
    return sum(file.lstat().st_size for file in run.path.rglob("*") if file.is_file() or file.is_symlink())


def _steps(run: Run, record: Mapping[str, Any]) -> int | None:
    if "steps" in record:
        return int(record["steps"])
    file = run.path / "latest.json"
    return _read(file, lambda latest: int(latest["step"])) if file.is_file() else None


def _read(file: Path, take: Callable[[Any], T]) -> T:
    """What is taken from the values in a JSON file.

    Raises:
        RunError: it cannot be read, or has other values than omnictl writes.
    """
    values = read_json(file)
    try:
        return take(values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{file} is not as omnictl writes it", where=str(file), fix="copy the run anew from where it is whole"
        ) from error


def _data(run: Run) -> str | None:
    config = read_json(run.config_file) if run.config_file.is_file() else {}
    data = config.get("data") if isinstance(config, dict) else None
    return str(data["source"]) if isinstance(data, dict) and "source" in data else None


def _newest_evaluation(run: Run) -> tuple[Score, str | None] | None:
    """The score and the verdict of a run's newest evaluation; None if it has none, or one without a finite score."""
    files = sorted(run.evaluations.glob("*/report.json"), key=lambda file: file.stat().st_mtime_ns)
    return _read(files[-1], lambda report: _evaluated(report, files[-1].parent.name)) if files else None


def _evaluated(report: Mapping[str, Any], split: str) -> tuple[Score, str | None] | None:
    headline = report["headline"]
    if headline["value"] is None:  # no finite number
        return None
    estimate = report.get("estimates", {}).get(headline["name"], {})
    score = Score(
        headline["name"],
        float(headline["value"]),
        headline["better"],
        estimate.get("low"),
        estimate.get("high"),
        report["num_examples"],
        split,
    )
    return score, report.get("verdict", {}).get("word")


def _metric(best: Mapping[str, Any]) -> tuple[str, float]:
    ((name, value),) = (item for item in best.items() if item[0] != "step")
    return name, float(value)


def _validated(run: Run) -> Score | None:
    """The best validation; which way is better shows in its being the least or the largest of all."""
    file = run.path / "best.json"
    if not file.is_file():
        return None
    name, best = _read(file, _metric)
    values = [line[name] for line in read_lines(run.metrics_file) if line.get("split") == "val" and name in line]
    better = None
    if len(set(values)) > 1:
        better = "lower" if best <= min(values) else "higher" if best >= max(values) else None
    return Score(name, best, better)
