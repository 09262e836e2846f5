"""Damage to what a run has written: each is found and named, or changes nothing; there is no third."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import load_file

from omnictl.data.manifest.cache import CHECKSUMS, cache_dir, read_or_build
from omnictl.errors import OmniError
from omnictl.measure.verify import verify_run
from omnictl.runs.run import Run
from omnictl.stages.pretrain import Pretrain
from omnictl.stages.protocol import open_model
from omnictl.trainer.checkpoint import keep_weights, newest_intact_checkpoint
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


def older(path: Path, generator: random.Random) -> None:
    """In the place of a file an old copy of it, where there is one: in another checkpoint, or a model's from before its last."""
    copies = [
        folder / path.name for folder in path.parent.parent.iterdir() if folder not in (path.parent, path) and folder.is_dir()
    ]
    copies = [copy for copy in copies if copy.is_file()]
    if copies:
        path.write_bytes(generator.choice(copies).read_bytes())


DAMAGES = (flip, flip, flip, cut, zero, delete, append, exchange, older, older)


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
    before = Path(shutil.copytree(trained / "model", tmp_path / "before"))
    keep_weights({name: tensor * 2 for name, tensor in load_file(before / "model.safetensors").items()}, before)
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


def values_of(path: Path) -> object:
    """What a file says: its bytes, or of JSON the values, without the checksum of a record, whose name may be what was damaged."""
    if path.name not in ("run.json", "config.json", "best.json") or path.parent.name == "model":
        return path.read_bytes()
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return {key: value for key, value in values.items() if len(str(value)) != 64} if isinstance(values, dict) else values


CHECKED = ("run.json", "config.json", "metrics.jsonl", "checkpoints/*/*", "model/*")
"""Whatever is changed in these files of a run, `runs verify` finds."""


def test_damage_to_a_run_is_found(trained: Path, tmp_path: Path) -> None:
    """By `verify`, whichever file it is in; what it does not find has changed nothing that is said."""
    silent: list[str] = []
    for seed in range(TIMES):
        run = Run(Path(shutil.copytree(trained, tmp_path / "pretrain" / f"run{seed}")))
        files = sorted(path for pattern in CHECKED for path in run.path.glob(pattern) if path.stat().st_size)
        generator = random.Random(seed)
        path = generator.choice(files)
        damage = generator.choice([other for other in DAMAGES if other is not append or path.suffix != ".jsonl"])
        before = {file: values_of(file) for file in files}
        damage(path, generator)
        changed = [file for file in files if not file.is_file() or values_of(file) != before[file]]
        if changed and not verify_run(run).problems:
            silent.append(f"seed {seed}: {damage.__name__} of {path.relative_to(run.path)}")
        shutil.rmtree(run.path)
    assert silent == []


def test_a_damaged_run_ends_as_an_undamaged_one_or_is_refused(omnictl: Any, trained: Path, tmp_path: Path) -> None:
    """Any of its files, then two more steps: the same bits where an older whole state is there, else exit code 4; no traceback."""
    undisturbed = Path(shutil.copytree(trained, tmp_path / "runs" / "pretrain" / "undisturbed"))
    assert omnictl("pretrain", "--resume", undisturbed, "--max-steps", 22).code == 0
    expected = state(undisturbed / "checkpoints" / "step-00000022"), (undisturbed / "model" / "model.safetensors").read_bytes()
    wrong: list[str] = []
    for seed in range(max(3, TIMES // 10)):
        run = Path(shutil.copytree(trained, tmp_path / "runs" / "pretrain" / f"run{seed}"))
        generator = random.Random(seed)
        files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size and path.suffix != ".lock")
        path, damage = generator.choice(files), generator.choice(DAMAGES)
        damage(path, generator)
        ended = omnictl("pretrain", "--resume", run, "--max-steps", 22)
        if ended.code == 0:
            found = state(run / "checkpoints" / "step-00000022"), (run / "model" / "model.safetensors").read_bytes()
        what = f"seed {seed}: {damage.__name__} of {path.relative_to(run)}: {ended.code} {ended.err[-300:]}"
        if ended.code not in (0, 2, 4) or "Traceback" in ended.err:
            wrong.append(what)
        elif ended.code == 0 and found != expected and not _is_told(path, ended.out + ended.err):
            wrong.append(f"{what}: it ended with other bits")
        shutil.rmtree(run)
    assert wrong == []


def _is_told(path: Path, said: str) -> bool:
    """A log's lines cannot be brought back, nor the best weights if the checkpoint of their step is gone: it is said so."""
    return path.name in said or "no whole checkpoint has the weights" in said


@pytest.mark.parametrize("damage", [flip, cut, zero, delete, append, exchange])
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
