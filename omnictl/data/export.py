"""Writes TinyWorld out as ordinary files, which the file loaders read back the same: documents, recordings with
transcripts, images with labels and captions, or dialogues with images and recordings.

A folder appears whole or not at all: it is written under a hidden name beside its place, and renamed at the end.
"""

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray
from PIL import Image

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.chat_template import Dialogue, Media
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues, say
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.data.inspect.image_files import render_pixels
from omnictl.data.manifest.cache import flush
from omnictl.data.speech.corpus import BLOCK, Samples, SpeechCorpus
from omnictl.data.speech.manifest import FIELDS
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.data.text.tinyworld import TinyWorldText
from omnictl.errors import DataError, DiskFull, OmniError, UsageError
from omnictl.progress import log_progress
from omnictl.tinyworld.images.scenes import scene

RATE = 16_000
"""Of the recordings, in Hz."""

DOCUMENTS = "documents.jsonl"
RECORDINGS = "metadata.csv"
IMAGES = "metadata.jsonl"
DIALOGUES = "dialogues.jsonl"


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
    with new_folder(out) as draft, (draft / DOCUMENTS).open("w", encoding="utf-8", newline="\n") as file:
        total = world.num_documents + 2 * world.num_eval_documents
        rows = ((split, text) for split in SPLITS for text in world.documents(split))
        for split, text in log_progress(rows, "writing documents", total):
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
    with new_folder(out) as draft, (draft / RECORDINGS).open("w", encoding="utf-8", newline="") as file:
        (draft / "audio").mkdir()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS[:4])  # whole recordings
        total = world.num_utterances + 2 * world.num_eval_utterances
        recordings = ((split, audio) for split in SPLITS for audio in _speak(world, split))
        for split, audio in log_progress(recordings, "writing recordings", total):
            recording = world.recordings(split)[counts[split]]
            name = f"audio/{split}_{counts[split]:06}.flac"
            (draft / name).write_bytes(encode_flac(audio))
            writer.writerow((name, recording.text, recording.speaker, split))
            counts[split] += 1
        flush(file)
    return counts


def _speak(world: SpeechCorpus, split: Split) -> Iterator[Samples]:
    for block in range(-(-len(world.recordings(split)) // BLOCK)):
        for audio in world.samples(split, block, RATE):
            if isinstance(audio, DataError):
                raise audio
            yield audio


def encode_flac(audio: Samples) -> bytes:
    """`(n,)` samples in [-1, 1] at `RATE` as a FLAC file of 16 bits."""
    # By way of memory: libsndfile says nothing of a disk that is full.
    buffer = io.BytesIO()
    soundfile.write(buffer, np.rint(audio * 2**15).astype(np.int16), RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def export_images(world: TinyWorldImages, out: Path, *, num: int) -> dict[Split, int]:
    """Writes `metadata.jsonl` with `image,label,caption,split`, the label all attributes, and the scenes in `images/`: PNG, 112 px.

    Args:
        world: the images.
        out: a new or empty folder.
        num: how many of the endless training scenes.

    Returns:
        Images of each split.

    Raises:
        UsageError: the folder holds something, or may not be written.
        DiskFull: no space left; nothing of the folder is.
    """
    counts: dict[Split, int] = {split: len(world.images(split, "labels", {})) for split in SPLITS} | {"train": num}
    with new_folder(out) as draft, (draft / IMAGES).open("w", encoding="utf-8", newline="\n") as file:
        (draft / "images").mkdir()
        places = [(split, index) for split in SPLITS for index in range(counts[split])]
        for split, index in log_progress(places, "writing images", len(places)):
            drawn_scene = scene(world.seed, split, index)
            image = f"images/{split}_{index:06}.png"
            (draft / image).write_bytes(_png(render_pixels(drawn_scene)))
            row = {"image": image, "label": drawn_scene.labels(), "caption": drawn_scene.caption, "split": split}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        flush(file)
    return counts


def export_dialogues(world: TinyWorldDialogues, out: Path) -> dict[Split, int]:
    """Writes `dialogues.jsonl`, images (PNG, 112 px), recordings, and each last answer as it is said (FLAC, 16 bits, 16 kHz).

    Args:
        world: the dialogues, `TinyWorldDialogues.few`.
        out: a new or empty folder.

    Returns:
        Dialogues of each split.

    Raises:
        UsageError: the folder holds something, or may not be written.
        DiskFull: no space left; nothing of the folder is.
        DataError: espeak-ng cannot run here.
    """
    counts: dict[Split, int] = {split: sum(world.tasks(split).values()) for split in SPLITS}
    with new_folder(out) as draft, (draft / DIALOGUES).open("w", encoding="utf-8", newline="\n") as file:
        for folder in ("images", "audio", "replies"):
            (draft / folder).mkdir()
        places = [(split, task, number) for split in SPLITS for task, number in _in_turn(world.tasks(split))]
        _write_audio(world, draft, places)
        for split, task, number in log_progress(places, "writing dialogues", len(places)):
            dialogue = world.dialogue(split, task, number)
            _write_images(world, split, dialogue.media, draft)
            row = {"messages": _messages(dialogue, split), "task": task, "id": dialogue.id, "split": split}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        flush(file)
    return counts


def _in_turn(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The first dialogue of each task, the second of each, and so on."""
    for number in range(max(counts.values(), default=0)):
        yield from ((task, number) for task, count in counts.items() if number < count)


def _write_audio(world: TinyWorldDialogues, draft: Path, places: Sequence[tuple[Split, str, int]]) -> None:
    """Write the spoken questions, by the number of the recording, and the spoken answers."""
    questions = [(split, number) for split in SPLITS for number in range(len(world.audio.recordings(split)))]
    recordings = (audio for split in SPLITS for audio in _speak(world.audio, split))
    for (split, number), audio in zip(log_progress(questions, "writing recordings", len(questions)), recordings, strict=True):
        (draft / _file_of(Media("audio", number), split)).write_bytes(encode_flac(audio))
    plans = [world.spoken_answer(*place) for place in places]
    answers = (audio for start in range(0, len(plans), BLOCK) for audio in say(plans[start : start + BLOCK], RATE))
    for (split, task, number), audio in zip(log_progress(places, "writing replies", len(places)), answers, strict=True):
        (draft / _reply_of(f"{split}/{task}/{number}")).write_bytes(encode_flac(audio))


def _write_images(world: TinyWorldDialogues, split: Split, media_of_dialogue: Sequence[Media], draft: Path) -> None:
    """Write the images that are not there yet."""
    for media in media_of_dialogue:
        file = draft / _file_of(media, split)
        if media.kind == "image" and not file.exists():
            file.write_bytes(_png(render_pixels(scene(world.seed, split, media.number))))


def _messages(dialogue: Dialogue, split: Split) -> list[dict[str, object]]:
    """As `dialogue_manifest` reads them; content without media is a string."""
    messages: list[dict[str, object]] = []
    for message in dialogue.messages:
        parts: list[dict[str, str]] = []
        for part in message.parts:
            if isinstance(part, Media):
                parts.append({"type": part.kind, part.kind: _file_of(part, split)})
            else:
                parts.append({"type": "text", "text": part})
        if message is dialogue.messages[-1]:
            parts.append({"type": "audio", "audio": _reply_of(dialogue.id)})
        plain = all(part["type"] == "text" for part in parts)
        messages.append({"role": message.role, "content": message.text if plain else parts})
    return messages


def _file_of(media: Media, split: Split) -> str:
    folder, suffix = ("images", "png") if media.kind == "image" else ("audio", "flac")
    return f"{folder}/{split}_{media.number:06}.{suffix}"


def _reply_of(dialogue_id: str) -> str:
    split, task, number = dialogue_id.split("/")
    return f"replies/{split}_{task}_{int(number):06}.flac"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    # By way of memory, as above. Fast: more effort makes noise no smaller.
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@contextmanager
def new_folder(out: Path, *, fewer: str = "--num") -> Iterator[Path]:
    """A new folder to write into that becomes `out` in the end, or is removed.

    Args:
        out: new or empty.
        fewer: the option by which less is written.

    Raises:
        UsageError: it holds something, or may not be written.
        DiskFull: no space left.
    """
    out = Path(os.path.realpath(out.expanduser()))
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        check_empty(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        try:
            yield draft
            draft.replace(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise _explain(error, out, fewer) from error


def check_empty(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UsageError: it does, or is a file or the working folder.
    """
    if not out.exists():
        return
    if not out.is_dir() or any(out.iterdir()):
        state = "holds something already" if out.is_dir() else "is a file"
        message = f"{out} {state}; a new or empty folder was expected"
        raise UsageError(message, where="--out", fix="name a folder that is not there yet")
    if out == Path.cwd():
        raise UsageError(f"{out} is the working folder, which cannot be replaced", where="--out", fix="name a folder inside of it")


def _explain(error: OSError, out: Path, fewer: str) -> OmniError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        fix = f"free some space, name a folder elsewhere, or write fewer with {fewer}"
        return DiskFull(f"no space left while writing {out}", where=str(out), fix=fix)
    fix = "name a folder elsewhere, or make the one that it goes into writable"
    culprit = f" ({error.filename})" if error.filename else ""
    return UsageError(f"cannot write {out}: {error.strerror}{culprit}", where="--out", fix=fix)
