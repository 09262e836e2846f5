"""Any number of processes trains the same model: against one process, with real ones that `torchrun` starts."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import CPU, STEPS, every_stage, killed_once
from regression import Recorder, Regression, new_run, trained
from safetensors.torch import load_file

from omnictl.errors import ConfigError
from omnictl.runs.run import Run
from omnictl.stages import STAGES
from omnictl.trainer.config import TrainConfig
from omnictl.trainer.distributed import process_group
from omnictl.trainer.distributed.process_group import ALONE, ProcessGroup, join_world
from omnictl.trainer.loop import train

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]


def launch(processes: int, task: str, folder: Path, *options: str) -> None:
    """Run a task of `processes.py` in so many processes of one thread each."""
    with launched(processes, task, folder, *options) as launcher:
        code = launcher.wait()
    if code:
        raise subprocess.CalledProcessError(code, launcher.args)


def launched(
    processes: int, task: str, folder: Path, *options: str, port: int = 0, environment: Mapping[str, str] = {}
) -> subprocess.Popen[bytes]:
    """The launcher of a host."""
    paths = os.pathsep.join(map(str, (TESTS, TESTS / "trainer")))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", *options),
            *(str(TESTS / "trainer" / "processes.py"), task, str(folder)),
        ],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
    )


def by_one_and_two(task: Callable[[Path, ProcessGroup], None], folders: pytest.TempPathFactory) -> dict[int, Path]:
    """Where one process and where two have done a task of `processes.py`."""
    one, two = folders.mktemp("one"), folders.mktemp("two")
    task(one, ALONE)
    launch(2, task.__name__, two)
    return {1: one, 2: two}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process and what two make of every stage."""
    return by_one_and_two(every_stage, tmp_path_factory)


every = pytest.mark.parametrize("name", STAGES)


@every
def test_two_processes_take_the_gradient_of_one(name: str, folders: dict[int, Path]) -> None:
    one, two = (load_file(folders[n] / f"{name}_gradient.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    difference = torch.stack([(one[key] - two[key]).square().sum() for key in one]).sum().sqrt()
    norm = torch.stack([value.square().sum() for value in one.values()]).sum().sqrt()
    assert difference <= 1e-10 * norm
    assert norm > 0


@every
def test_two_processes_end_with_the_weights_of_one(name: str, folders: dict[int, Path]) -> None:
    one, two = (load_file(folders[n] / f"{name}.safetensors") for n in (1, 2))
    assert one.keys() == two.keys()
    for key in one:
        torch.testing.assert_close(two[key], one[key], rtol=1e-8, atol=1e-8)


@every
def test_processes_see_the_examples_of_one_in_its_order(name: str, folders: dict[int, Path]) -> None:
    (one,), two = (json.loads((folders[n] / f"{name}_seen.json").read_text()) for n in (1, 2))
    assert [first + second for first, second in zip(*two, strict=True)] == one


@every
def test_two_processes_log_as_one(name: str, folders: dict[int, Path]) -> None:
    one, two = (steps_of(next((folders[n] / "runs" / name).iterdir())) for n in (1, 2))
    assert len(one) == STEPS
    for mine, yours in zip(one, two, strict=True):
        assert mine == pytest.approx(yours, rel=1e-6)


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "split"} for line in lines if line["split"] == "train"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [7, 8, 12])
def test_shares_are_the_batch(size: int, length: int) -> None:
    shares = [ProcessGroup(rank, size).share(range(length)) for rank in range(size)]
    assert [example for share in shares for example in share] == list(range(length))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_short_messages_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_group, "BUCKET", 100)
    tensors = [torch.zeros(number) for number in (5, 20, 1, 60, 2, 3)] + [torch.zeros(4, dtype=torch.float64)]
    buckets = list(process_group._buckets(tensors))
    assert [[len(tensor) for tensor in bucket] for bucket in buckets] == [[5, 20], [1], [60], [2, 3], [4]]
    assert [id(tensor) for bucket in buckets for tensor in bucket] == list(map(id, tensors))
    assert list(process_group._buckets([])) == []


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The steps of a run that one process makes from beginning to end."""
    folder = tmp_path_factory.mktemp("unharmed")
    killed_once(folder, ALONE)
    return steps_of(next((folder / "runs" / "regression").iterdir()))


def test_a_worker_that_is_killed_is_started_again_and_goes_on(tmp_path: Path, unharmed: list[dict[str, Any]]) -> None:
    launch(2, "killed_once", tmp_path, "--max-restarts", "1", "--rdzv-id", "mend")
    check_mended(tmp_path, unharmed)
    assert json.loads((tmp_path / "begun_2.json").read_text())["at"] == 8


def test_fewer_processes_go_on_with_what_more_began(tmp_path: Path, unharmed: list[dict[str, Any]]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        launch(3, "killed_once", tmp_path, "--max-restarts", "0", "--rdzv-id", "fewer")
    launch(2, "killed_once", tmp_path, "--max-restarts", "0", "--rdzv-id", "fewer")
    check_mended(tmp_path, unharmed)
    assert json.loads((tmp_path / "begun_2.json").read_text())["at"] == 8


@pytest.mark.slow
def test_a_host_that_leaves_is_done_without(tmp_path: Path, unharmed: list[dict[str, Any]]) -> None:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]

    def host(*, meets: bool, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        patience = f"is_host={int(meets)},last_call_timeout=15,keep_alive_interval=1,keep_alive_max_attempt=3"
        options = ("--nnodes", "1:2", "--max-restarts", "1", "--rdzv-id", "left", "--rdzv-conf", patience)
        return launched(1, "host_left", tmp_path, *options, port=port, environment=environment)

    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as docs/several_processes.md says, so that it could come back
    with host(meets=True, environment=own_store) as stays, host(meets=False, environment=own_store | {"HOST_LEAVES": ""}) as leaves:
        assert leaves.wait() == -signal.SIGKILL
        assert stays.wait() == 0
    check_mended(tmp_path, unharmed)
    assert json.loads((tmp_path / "begun_1.json").read_text())["at"] == 8


def check_mended(folder: Path, unharmed: list[dict[str, Any]]) -> None:
    assert (folder / "killed").exists()
    (run,) = (folder / "runs" / "regression").iterdir()
    assert Run(run).record()["status"] == "finished"
    for mended, whole in zip(steps_of(run), unharmed, strict=True):
        assert mended == pytest.approx(whole, rel=1e-6)


def test_more_processes_than_examples_are_refused(tmp_path: Path) -> None:
    stage = Regression()
    run = new_run(tmp_path, stage)
    with pytest.raises(ConfigError, match="a batch of 2 examples cannot be shared among 3 processes"):
        train(stage, TrainConfig(batch_size=2), run, device=CPU, observer=Recorder(), group=ProcessGroup(0, 3, 3))


def test_a_process_by_itself_needs_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_world() is ALONE
    assert (ALONE.gather(3), ALONE.first(lambda: 4), ALONE.is_main) == ([3], 4, True)
    stage = Regression()
    assert trained(new_run(tmp_path, stage), stage).status == "finished"
