"""Writes TinyWorld out as ordinary files, which the file loaders read back the same: documents, or recordings with transcripts.

A folder appears whole or not at all: it is written under a hidden name beside its place, and renamed at the end.
"""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]

from omnictl.data.cache import flush
from omnictl.data.corpus import TinyWorldText
from omnictl.data.manifest import FIELDS
from omnictl.data.progress import told
from omnictl.data.speech import BLOCK, Samples, TinyWorldSpeech
from omnictl.data.text_files import SPLITS, Split
from omnictl.errors import DataError, DiskFull, OmniError, UsageError

RATE = 16_000
"""Of the recordings, in Hz."""

DOCUMENTS = "documents.jsonl"
MANIFEST = "metadata.csv"


def export_text(world: TinyWorldText, out: Path) -> dict[Split, int]:
    """Writes `documents.jsonl`, an object with `text` and `split` a line.

    Read back, ChatML in the documents is plain characters: special tokens are never taken from files.

    Args:
        world: the documents.
        out: a new or empty folder.

    Returns:
        Documents of each split.

    Raises:
        UsageError: the folder holds something, or may not be written.
        DiskFull: no space left; nothing of the folder is.
    """
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    with _whole(out) as draft, (draft / DOCUMENTS).open("w", encoding="utf-8", newline="\n") as file:
        total = world.num_documents + 2 * world.num_eval_documents
        rows = ((split, text) for split in SPLITS for text in world.documents(split))
        for split, text in told(rows, "writing documents", total):
            file.write(json.dumps({"text": text, "split": split}, ensure_ascii=False) + "\n")
            counts[split] += 1
        flush(file)
    return counts


def export_speech(world: TinyWorldSpeech, out: Path) -> dict[Split, int]:
    """Writes `metadata.csv` with `audio,text,speaker,split`, and the recordings in `audio/`: FLAC, 16 bits, 16 kHz, one channel.

    Args:
        world: the recordings.
        out: a new or empty folder.

    Returns:
        Recordings of each split.

    Raises:
        UsageError: the folder holds something, or may not be written.
        DiskFull: no space left; nothing of the folder is.
        DataError: espeak-ng cannot run here.
    """
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    with _whole(out) as draft, (draft / MANIFEST).open("w", encoding="utf-8", newline="") as file:
        (draft / "audio").mkdir()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        total = world.num_utterances + 2 * world.num_eval_utterances
        sounds = ((split, sound) for split in SPLITS for sound in _sounds(world, split))
        for split, sound in told(sounds, "writing recordings", total):
            recording = world.recordings(split)[counts[split]]
            audio = f"audio/{split}_{counts[split]:06}.flac"
            (draft / audio).write_bytes(_flac(sound))
            writer.writerow((audio, recording.text, recording.speaker, split))
            counts[split] += 1
        flush(file)
    return counts


def _sounds(world: TinyWorldSpeech, split: Split) -> Iterator[Samples]:
    for block in range(-(-len(world.recordings(split)) // BLOCK)):
        for sound in world.sounds(split, block, RATE):
            if isinstance(sound, DataError):
                raise sound
            yield sound


def _flac(sound: Samples) -> bytes:
    # By way of memory: libsndfile says nothing of a disk that is full.
    buffer = io.BytesIO()
    soundfile.write(buffer, np.rint(sound * 2**15).astype(np.int16), RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A new folder to write into that becomes `out` in the end, or is removed."""
    out = Path(os.path.realpath(out.expanduser()))
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        _check_empty(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        try:
            yield draft
            draft.replace(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise _named(error, out) from error


def _check_empty(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir() or any(out.iterdir()):
        found = "holds something already" if out.is_dir() else "is a file"
        message = f"{out} {found}; a new or empty folder was expected"
        raise UsageError(message, where="--out", fix="name a folder that is not there yet")
    if out == Path.cwd():
        raise UsageError(f"{out} is the working folder, which cannot be replaced", where="--out", fix="name a folder inside of it")


def _named(error: OSError, out: Path) -> OmniError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = "free some space, name a folder elsewhere, or write fewer with --num"
        return DiskFull(f"no space left while writing {out}", where=str(out), fix=fix)
    fix = "name a folder elsewhere, or make the one that it goes into writable"
    culprit = f" ({error.filename})" if error.filename else ""
    return UsageError(f"cannot write {out}: {error.strerror}{culprit}", where="--out", fix=fix)
