"""Commands run inside the test process, each test with a run folder of its own."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from omnictl.cli.app import run
from omnictl.pipeline import context
from omnictl.stages import pretrain
from omnictl.trainer import loop, trainer
from omnictl.trainer.log import StepRecord


class Ended(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The result of a command with `--json`: standard output must hold that object alone."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture(scope="session", autouse=True)
def known_machine() -> Iterator[None]:
    """Timing a matrix product takes longer than a whole debug run."""
    patch = pytest.MonkeyPatch()
    patch.setattr(trainer, "matmul_rate", lambda device: 1e11)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def few_continuations() -> Iterator[None]:
    """To go on with twenty documents, token by token, is most of an evaluation of stage A, and with two a third of a debug run."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pretrain, "NUM_CONTINUATIONS", 3)
    patch.setattr(pretrain, "NUM_SAMPLES", 1)
    yield
    patch.undo()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run root of this test, not made yet; the working directory is beside it."""
    monkeypatch.setenv("OMNICTL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def omnictl(runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `omnictl` with these arguments."""

    def command(*arguments: object) -> Ended:
        texts = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["omnictl", *texts])
        capfd.readouterr()
        code = run(texts)
        return Ended(code, *capfd.readouterr())

    return command


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished debug run on TinyWorld. Not to be changed: `trained` is a copy."""
    root = tmp_path_factory.mktemp("trained")
    assert run(["pretrain", "--preset", "debug", "--quiet", "--runs", str(root)]) == 0
    (path,) = (root / "pretrain").iterdir()
    return path


@pytest.fixture
def trained(trained_once: Path, runs: Path) -> Path:
    """A finished debug run in this test's run root."""
    return Path(shutil.copytree(trained_once, runs / "pretrain" / trained_once.name))


@pytest.fixture(scope="session")
def prose() -> str:
    """Enough plain text for the debug preset: 60 documents."""
    names, things = ["Ada", "Bo", "Cleo", "Dan", "Eve", "Finn"], ["lamp", "river", "window", "stone", "letter", "garden"]
    verbs = ["found", "painted", "forgot", "wanted", "carried"]
    documents = []
    for number in range(60):
        sentences = [
            f"{names[number % 6]} {verbs[(number + line) % 5]} the {things[(number * line) % 6]} number {number + line}."
            for line in range(6)
        ]
        documents.append(" ".join(sentences))
    return "\n\n\n".join(documents)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """Presses Ctrl-C at a step of each stage's first training from now on; gives the list of stages that are trained, in order."""

    def start(at: int) -> list[str]:
        trained: list[str] = []

        def interrupted(stage: Any, *args: Any, observer: Any, **kwargs: Any) -> Any:
            trained.append(stage.name)
            if trained.count(stage.name) == 1:
                step = observer.step

                def stepped(record: StepRecord) -> None:
                    step(record)
                    if record.step == at:
                        os.kill(os.getpid(), signal.SIGINT)

                monkeypatch.setattr(observer, "step", stepped)
            return loop.train(stage, *args, observer=observer, **kwargs)

        monkeypatch.setattr(context, "train", interrupted)
        return trained

    return start
