import json
import os
import shutil
from pathlib import Path

import pytest

from omnictl.errors import CheckpointError, DiskFull
from omnictl.runs import checksums
from omnictl.runs.checksums import (
    MANIFEST,
    check_folder,
    check_sealed,
    describe_file,
    note_unsealed,
    read_sealed,
    replace_sealed,
    seal,
    seal_anew,
)
from omnictl.runs.model_folder import copy_parts, described_field


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed folder."""
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "model.safetensors"):
        (made / name).write_text(f"the content of {name}")
    seal(made)
    return made


def damaged(path: Path, problem: str) -> str:
    return f"{path} is damaged: {problem}"


def test_a_manifest_describes_every_other_file(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest == {path.name: describe_file(path) for path in folder.iterdir() if path.name != MANIFEST}
    check_folder(folder)
    assert read_sealed(folder / "config.json") == b"the content of config.json"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"the content of config.jsoN", "its SHA-256 is not the one that manifest.json beside it gives"),
        (b"", "it has 0 bytes, 26 were written"),
    ],
)
def test_a_changed_file_is_named(folder: Path, content: bytes, problem: str) -> None:
    path = folder / "config.json"
    path.write_bytes(content)
    for look in (check_sealed, read_sealed, lambda path: check_folder(path.parent)):
        with pytest.raises(CheckpointError) as caught:
            look(path)
        assert caught.value.exit_code == 4
        assert caught.value.where == str(path)
    with pytest.raises(CheckpointError) as check:
        check_sealed(path)
    assert check.value.message == damaged(path, problem)
    assert "--resume" in check.value.fix


def test_a_missing_and_an_unknown_file_are_named(folder: Path) -> None:
    (folder / "new.json").write_text("?")
    with pytest.raises(CheckpointError) as unknown:
        read_sealed(folder / "new.json")
    assert unknown.value.message == damaged(folder / "new.json", "manifest.json beside it does not name it")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError) as missing:
        check_folder(folder)
    assert missing.value.message == damaged(folder / "config.json", "it is missing")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"bytes": "1", "sha256": ""}}', b"\xff", b"[" * 99_999])
def test_a_damaged_manifest_is_named(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest.json is damaged: "):
        check_sealed(folder / "config.json")


def test_sealing_again_blesses_no_damage_but_sealing_anew_does(folder: Path) -> None:
    (folder / "config.json").write_text("other")
    (folder / "tokenizer.json").write_text("later")
    seal(folder)
    assert read_sealed(folder / "tokenizer.json") == b"later"
    with pytest.raises(CheckpointError):
        read_sealed(folder / "config.json")
    seal_anew(folder)
    check_folder(folder)


def draft(folder: Path, content: str) -> Path:
    path = folder / ".model.safetensors.tmp"
    path.write_text(content)
    return path


def test_a_replaced_file_is_described_and_the_old_one_no_more(folder: Path) -> None:
    final = folder / "model.safetensors"
    old = final.read_bytes()
    replace_sealed(draft(folder, "new weights"), final)
    check_folder(folder)
    assert read_sealed(final) == b"new weights"
    final.write_bytes(old)
    with pytest.raises(CheckpointError):
        check_sealed(final)


class PowerCut(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize("call", range(9))
def test_a_power_cut_between_any_two_calls_leaves_the_old_or_the_new(
    folder: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = folder / "model.safetensors"
    calls = iter(range(99))

    def cut(original: object) -> object:
        def maybe(*args: object, **kwargs: object) -> object:
            if next(calls) == call:
                raise PowerCut
            return original(*args, **kwargs)  # type: ignore[operator]

        return maybe

    new = draft(folder, "new weights")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut(os.fsync))
        patch.setattr(Path, "replace", cut(Path.replace))
        try:
            replace_sealed(new, final)
        except PowerCut:
            assert call < 8
        else:
            assert call == 8, "so many calls there are"
    check_folder(folder)
    assert read_sealed(final) in (b"the content of model.safetensors", b"new weights")


def test_a_full_disk_leaves_the_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskFull):
        replace_sealed(draft(folder, "new"), folder / "model.safetensors")
    monkeypatch.undo()
    check_folder(folder)


def test_a_folder_without_checksums_is_read_with_one_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "asr").mkdir()
    assert read_sealed(tmp_path / "config.json") == b"{}"
    check_folder(tmp_path)
    for _ in range(3):
        note_unsealed(tmp_path, was_sealed=False)
        note_unsealed(tmp_path / "asr", was_sealed=False)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path} carries no checksums: it was made before there were any, so damage to it would go unnoticed"
    ]


def test_a_manifest_that_was_taken_away_is_missed(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError) as caught:
        note_unsealed(folder, was_sealed=True)
    assert caught.value.message == damaged(folder / MANIFEST, "it is missing, and the weights beside it were written with one")


def test_copies_of_parts_carry_checksums_and_damaged_parts_are_not_copied(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "codec").mkdir(parents=True)
    for place in (old, old / "codec"):
        (place / "config.json").write_text(f"{place}")
    (old / ".model.tmp").write_text("half")
    joined = tmp_path / "joined"
    joined.mkdir()
    copy_parts(joined, {"asr": folder, "talker": old})
    seal(joined)
    assert set(json.loads((joined / MANIFEST).read_text())) == {"asr/manifest.json", "talker/manifest.json"}
    assert not (joined / "talker" / ".model.tmp").exists()
    check_folder(joined)
    (joined / "talker" / "codec" / "config.json").write_text("x")
    with pytest.raises(CheckpointError, match=r"talker/codec/config.json is damaged"):
        check_folder(joined)
    (folder / "config.json").write_text("x")
    with pytest.raises(CheckpointError):
        copy_parts(joined, {"vision": folder})


def test_an_exchanged_part_is_noticed(folder: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    joined.mkdir()
    copy_parts(joined, {"asr": folder})
    seal(joined)
    shutil.rmtree(joined / "asr")
    (folder / "config.json").write_text("another run's")
    seal_anew(folder)
    shutil.copytree(folder, joined / "asr")
    with pytest.raises(CheckpointError, match=r"asr/manifest.json is damaged"):
        check_folder(joined)


@pytest.mark.parametrize("value", ["x", None, 1.5, [], True])
def test_a_field_of_the_wrong_kind_is_named(tmp_path: Path, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format": 1, "stage": "pretrain", "vocab_size": value}))
    with pytest.raises(CheckpointError) as caught:
        described_field(tmp_path, "pretrain", "vocab_size", int)
    assert caught.value.message == f"{tmp_path}/config.json gives vocab_size as {str(value)!r}, expected a whole number"


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_only_regular_files_are_read(tmp_path: Path, make: object) -> None:
    make(tmp_path / "config.json")  # type: ignore[operator]
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        checksums.read_sealed(tmp_path / "config.json")
