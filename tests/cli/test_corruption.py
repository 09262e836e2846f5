"""Damage to what a run has written: each is found and named, or changes nothing; there is no third."""

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from omnictl.data.manifest.cache import CHECKSUMS, cache_dir, read_or_build
from omnictl.errors import OmniError
from omnictl.runs.run import Run
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.protocol import open_model
from omnictl.trainer.checkpoint import newest_intact_checkpoint
from omnictl.use.chat_session import Session

pytestmark = pytest.mark.faults

TIMES = int(os.environ.get("OMNICTL_FAULTS", "60"))
"""So many of each kind of folder; 400 for the figures in docs/reliability.md."""

T = TypeVar("T")

CPU = torch.device("cpu")


def flip(path: Path, generator: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(data)


def cut(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def zero(path: Path, generator: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = generator.randrange(len(data))
    length = generator.choice([1, 16, 512, len(data)])
    data[start : start + length] = bytes(len(data[start : start + length]))
    path.write_bytes(data)


def delete(path: Path, generator: random.Random) -> None:
    path.unlink()


def append(path: Path, generator: random.Random) -> None:
    with path.open("ab") as file:
        file.write(generator.randbytes(generator.choice([1, 16, 4096])))


def exchange(path: Path, generator: random.Random) -> None:
    other = generator.choice(sorted(file for file in path.parent.iterdir() if file.is_file()))
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


DAMAGES = (flip, flip, flip, cut, zero, delete, append, exchange)


def state(folder: Path) -> str:
    """A digest of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".lock":
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def damage_one(folder: Path, generator: random.Random) -> bool:
    """Damage one of a folder's files; whether anything is different now."""
    before = state(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.suffix != ".lock")
    generator.choice(DAMAGES)(generator.choice(files), generator)
    return state(folder) != before


def weights(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def outcome(look: Callable[[], T]) -> T | OmniError:
    """What comes of it; anything but a named error is a failure."""
    try:
        return look()
    except OmniError as error:
        return error


@pytest.mark.parametrize("look", ["evaluate", "chat"])
def test_damage_to_a_model_folder_is_named(trained: Path, look: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def open_it(folder: Path) -> torch.nn.Module:
        if look == "chat":
            return Session.open(folder, CPU, cache_dir()).respondent.model.thinker
        return open_model(Pretrain, folder, device=CPU, cache=cache_dir()).model

    whole = weights(open_it(trained / "model"))
    silent: list[int] = []
    for seed in range(TIMES):
        folder = Path(shutil.copytree(trained / "model", tmp_path / f"model{seed}"))
        generator = random.Random(seed)
        if not damage_one(folder, generator):
            continue
        found = outcome(lambda folder=folder: weights(open_it(folder)))
        if isinstance(found, OmniError):
            assert found.exit_code == 4
            assert str(folder) in found.message
        elif found != whole:  # the same, where it is a file that is not read
            silent.append(seed)
        shutil.rmtree(folder)
    assert silent == []


def test_damage_to_checkpoints_is_named_and_survived(trained: Path, tmp_path: Path) -> None:
    run = Run(trained)
    whole = {path.name: state(path) for path in run.checkpoints.iterdir()}
    for seed in range(TIMES):
        copy = Run(Path(shutil.copytree(trained, tmp_path / f"run{seed}")))
        generator = random.Random(seed)
        if seed % 8 == 0:  # folders exchanged
            first, second = sorted(copy.checkpoints.iterdir())[:2]
            for path, to in [(first, "aside"), (second, first.name), (copy.checkpoints / "aside", second.name)]:
                path.rename(copy.checkpoints / to)
        elif not damage_one(copy.checkpoints, generator):
            continue
        warnings: list[str] = []
        found = outcome(lambda copy=copy, warnings=warnings: newest_intact_checkpoint(copy, warnings.append))
        if isinstance(found, OmniError):
            assert found.exit_code == 4
            assert warnings
        else:
            assert found is not None
            assert state(found) == whole[found.name]
            assert found.name == max(whole) or warnings
        shutil.rmtree(copy.path)


@pytest.mark.parametrize("damage", [flip, cut, zero, delete, append])
def test_damage_to_the_cache_is_built_again(damage: Callable[..., None], tmp_path: Path) -> None:
    content = random.Random(0).randbytes(5_000)

    def write(folder: Path) -> None:
        (folder / "tokens.bin").write_bytes(content)
        (folder / "meta.json").write_text('{"format": 1}')

    def read(folder: Path) -> tuple[bytes, str]:
        return (folder / "tokens.bin").read_bytes(), (folder / "meta.json").read_text()

    folder = tmp_path / "kind" / "key"
    expected = read_or_build(folder, read, write)
    for seed in range(TIMES):
        damage(folder / ("tokens.bin", "meta.json", CHECKSUMS)[seed % 3], random.Random(seed))
        assert read_or_build(folder, read, write) == expected


@pytest.mark.parametrize("name", ["metrics.jsonl", "timings.jsonl", "run.json", "best.json", "latest.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 300 + b"\n", b"\xff\n", b"{", b"[]\n", b"null\n", b"[" * 100_000])
def test_no_damaged_record_shows_a_traceback(omnictl: Any, trained: Path, name: str, content: bytes) -> None:
    path = trained / name
    path.write_bytes(content if name.endswith("json") else path.read_bytes() + content)
    ended = omnictl("pretrain", "--resume", trained)
    assert ended.code in (0, 2, 4)
    assert "Traceback" not in ended.err
    assert ended.code == 0 or "error" in ended.err


@pytest.mark.parametrize("name", ["metrics.jsonl", "timings.jsonl", "latest.json", ".lock", "best.json", "run.json"])
def test_no_folder_in_the_place_of_a_file_shows_a_traceback(omnictl: Any, trained: Path, name: str) -> None:
    (trained / name).unlink(missing_ok=True)
    (trained / name).mkdir()
    ended = omnictl("pretrain", "--resume", trained, "--max-steps", 22)
    assert ended.code in (0, 4)
    assert "Traceback" not in ended.err
