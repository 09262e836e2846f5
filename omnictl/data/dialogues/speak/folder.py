"""Spoken dialogues as a folder: `dialogues.jsonl`, the questions in `audio/`, images and recordings that were there, and on request
the replies in one voice, to train a Talker on.

    dialogues.jsonl        the user's questions are recordings; what the assistant says is text, as it was
    audio/, questions.csv  the recordings (FLAC, 16 bits, 16 kHz, one channel) and what they say
    images/, recordings/   copies of what the dialogues show and let hear
    replies/metadata.csv   the sentences of the replies, and replies/audio/
    left_written.csv       the texts that are not said, with the reason

What of a row training does not read is left out. The folder appears whole or not at all.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.file_corpus import DialogueFiles
from omnictl.data.dialogues.manifest import DialogueManifest, DialogueRow, MediaFile, MessageRow, read_dialogues
from omnictl.data.dialogues.speak.questions import (
    Cast,
    LeftWritten,
    Question,
    Sentence,
    plan_questions,
    plan_replies,
    plan_reply_speech,
    plan_speech,
)
from omnictl.data.export import DIALOGUES, RATE, RECORDINGS, check_empty, encode_flac, new_folder
from omnictl.data.manifest.cache import cache_dir, flush
from omnictl.data.manifest.quarantine import format_rows
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.speech.corpus import BLOCK, Samples
from omnictl.errors import DataError, DiskFull, UsageError
from omnictl.progress import log_progress
from omnictl.tinyworld.speech.utterances import Utterance

QUESTIONS = "questions.csv"
REPLIES = "replies"
LEFT_WRITTEN = "left_written.csv"
SPEECH_FIELDS = ("audio", "text", "speaker", "split")

BYTES_A_CHARACTER = 2_500
"""Of a recording of what has so many: a second holds 13 or more, and its samples take 32 kB before they are packed."""

Say = Callable[[Sequence[Utterance]], Iterable[Samples]]
"""Recordings `(n,)` at `RATE` of a block of utterances."""


@dataclass(frozen=True)
class SpeakSettings:
    """What is said, and by whom."""

    share: float = 1.0
    """Of the questions."""
    seed: int = 0
    cast: Cast = field(default_factory=Cast)
    reply_voice: str | None = None
    """Whose voice the replies have; None: they are not said."""


class SpokenDialogues(NamedTuple):
    """What was written."""

    dialogues: Mapping[Split, int]
    questions: int
    """All that the user says in words, said or not."""
    spoken: int
    seconds: float
    """Of the questions."""
    voices: Mapping[str, int]
    """Questions in each voice."""
    left_written: Sequence[LeftWritten]
    """Questions, and sentences of replies, that cannot be said."""
    broken: Sequence[BrokenRow]
    """Rows that are not in the folder, because training would set them aside."""
    replies: int
    """Sentences of replies that are said."""
    reply_seconds: float


def speak_dialogues(source: str, out: Path, settings: SpeakSettings, say: Say) -> SpokenDialogues:
    """Write dialogues out with their questions spoken.

    Args:
        source: a file or folder of dialogues, as training reads it.
        out: a new or empty folder.
        settings: what is said.
        say: says it.

    Raises:
        UsageError: the folder holds something or may not be written, or the source is TinyWorld.
        DataError: no such source, too much of it is broken, or nothing of it can be said.
        DiskFull: no space; nothing of the folder is left.
    """
    check_empty(Path(os.path.realpath(out.expanduser())))
    plan = _plan(source, out, settings)
    with new_folder(out, fewer="--share") as draft:
        questions = _SpokenQuestions(draft, settings, say)
        questions.write(plan.questions, plan.splits)
        replies = _write_replies(draft / REPLIES, plan.sentences, settings, say)
        _write_dialogues(draft, plan, questions.files)
        left = [*plan.left_written, *questions.too_long, *replies.too_long]
        _write_table(draft / LEFT_WRITTEN, LeftWritten._fields, left)
    return SpokenDialogues(
        dialogues={split: list(plan.splits.values()).count(split) for split in SPLITS},
        questions=sum(message.role == "user" and _has_text(message) for row in plan.rows for message in row.messages),
        spoken=len(questions.files),
        seconds=questions.seconds,
        voices=dict(sorted(questions.voices.items())),
        left_written=left,
        broken=plan.broken,
        replies=replies.number,
        reply_seconds=replies.seconds,
    )


class _Plan(NamedTuple):
    """What is written, and what of it is said."""

    folder: Path
    """That the dialogues come from."""
    rows: Sequence[DialogueRow]
    splits: Mapping[str, Split]
    """By id of the row."""
    broken: Sequence[BrokenRow]
    questions: Sequence[Question]
    sentences: Sequence[Sentence]
    """Of the replies."""
    left_written: Sequence[LeftWritten]


def _plan(source: str, out: Path, settings: SpeakSettings) -> _Plan:
    """What `speak_dialogues` does, and its errors, before anything is said."""
    if tinyworld_seed(source) is not None:
        fix = f"write them out as they are: omnictl data export --kind dialogues --out {out}"
        raise UsageError("TinyWorld's dialogues are spoken already, a file was expected", where="PATH", fix=fix)
    manifest = read_dialogues(source_path(source))
    splits, broken = _split(manifest, source)
    rows = [row for row in manifest.rows if row.id in splits]
    asked = list(plan_questions(rows, settings.share, settings.seed))
    questions = [plan for plan in asked if isinstance(plan, Question)]
    left = [plan for plan in asked if isinstance(plan, LeftWritten)]
    if not questions:
        raise _nothing_to_say(source, settings.share, left)
    by_split = {split: [row for row in rows if splits[row.id] == split] for split in SPLITS}
    answered = list(plan_replies(by_split)) if settings.reply_voice is not None else []
    sentences = [plan for plan in answered if isinstance(plan, Sentence)]
    left += [plan for plan in answered if isinstance(plan, LeftWritten)]
    _check_space(out, rows, [text for question in questions for text in question.texts] + [each.text for each in sentences])
    return _Plan(manifest.folder, rows, splits, broken, questions, sentences, left)


def _has_text(message: MessageRow) -> bool:
    return any(isinstance(part, str) for part in message.parts)


def _split(manifest: DialogueManifest, source: str) -> tuple[dict[str, Split], Sequence[BrokenRow]]:
    """The split of each row that training would take, by id, and the rows that it would not.

    Raises:
        DataError: too many of these.
    """
    config = DialogueDataConfig(source=source)
    corpus = DialogueFiles(manifest, config, cache_dir())
    splits = {
        corpus.dialogue(split, task, number).id: split
        for split in SPLITS
        for task, count in corpus.tasks(split).items()
        for number in range(count)
    }
    num_broken, total = len(corpus.broken), len(splits) + len(corpus.broken)
    if num_broken > config.max_broken * total:
        raise DataError(
            f"{num_broken} of {total} rows cannot be read, allowed are {config.max_broken:.0%}:\n{format_rows(corpus.broken)}",
            where=source,
            fix=f"see all of them with `omnictl data check {source}`; mend or remove them",
        )
    return splits, corpus.broken


def _nothing_to_say(source: str, share: float, left: Sequence[LeftWritten]) -> DataError:
    if left:
        fix = "give questions in plain English words; docs/data.md lists what is not said"
        return DataError(f"no question of {source} can be said: {left[0].reason}", where=left[0].where, fix=fix)
    if share < 1:
        return DataError(f"a share of {share:g} of the questions of {source} is none", where="--share", fix="name a larger --share")
    return DataError(f"nobody asks anything in words in {source}", where=source, fix="give dialogues whose questions are texts")


def _check_space(out: Path, rows: Sequence[DialogueRow], texts: Sequence[str]) -> None:
    """Refuse what does not fit, before anything is said.

    Raises:
        DiskFull: it does not.
    """
    place = Path(os.path.realpath(out.expanduser()))
    while not place.exists():
        place = place.parent
    copied = sum(file.stat().st_size for file in {media.file for row in rows for media in _all_media(row)})
    needed, free = copied + BYTES_A_CHARACTER * sum(map(len, texts)), shutil.disk_usage(place).free
    if needed > free:
        raise DiskFull(
            f"recordings and copies of images take about {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free in {place}",
            where=str(place),
            fix="free some space, name a folder elsewhere with --out, or say fewer questions with --share",
        )


def _all_media(row: DialogueRow) -> Iterator[MediaFile]:
    for message in row.messages:
        yield from (part for part in message.parts if isinstance(part, MediaFile))
        yield from message.spoken


class _SpokenQuestions:
    """Recordings of questions, written as they are said."""

    def __init__(self, draft: Path, settings: SpeakSettings, say: Say) -> None:
        self._draft, self._settings, self._say = draft, settings, say
        self.files: dict[tuple[str, int], tuple[str, ...]] = {}
        """By id of the dialogue and number of the message: the recordings of its texts."""
        self.seconds = 0.0
        self.voices: dict[str, int] = {}
        self.too_long: list[LeftWritten] = []

    def write(self, questions: Sequence[Question], splits: Mapping[str, Split]) -> None:
        """Say the questions, and list what the recordings say."""
        (self._draft / "audio").mkdir()
        transcripts: list[tuple[str, str, str, Split]] = []
        plans = [plan_speech(each, splits[each.row.id], self._settings.cast, self._settings.seed) for each in questions]
        recordings = log_progress(_say_in_blocks(plans, self._say), "speaking questions", len(plans))
        for question, of_question, audio in zip(questions, plans, recordings, strict=True):
            transcripts += self._keep(question, of_question, audio, splits[question.row.id])
        _write_table(self._draft / QUESTIONS, SPEECH_FIELDS, transcripts)

    def _keep(
        self, question: Question, plans: Sequence[Utterance], audio: Sequence[Samples], split: Split
    ) -> Iterator[tuple[str, str, str, Split]]:
        flaw = _find_long(audio)
        if flaw is not None:
            self.too_long.append(LeftWritten(question.row.where, flaw, question.written))
            return
        number = len(self.files)
        names = tuple(f"audio/{split}_{number:06}{f'_{place + 1}' if place else ''}.flac" for place in range(len(audio)))
        for name, samples, plan in zip(names, audio, plans, strict=True):
            (self._draft / name).write_bytes(encode_flac(samples))
            self.seconds += len(samples) / RATE
            yield name, plan.text, plan.voice, split
        self.files[question.row.id, question.message] = names
        self.voices[plans[0].voice] = self.voices.get(plans[0].voice, 0) + 1


def _find_long(audio: Iterable[Samples]) -> str | None:
    longest, most = max(map(len, audio)) / RATE, DialogueDataConfig().max_seconds
    return f"it takes {longest:.0f} s to say, at most {most:g} s are trained on" if longest > most else None


class _SpokenReplies(NamedTuple):
    """What became of the sentences of the replies."""

    number: int
    seconds: float
    too_long: Sequence[LeftWritten]


def _write_replies(folder: Path, sentences: Sequence[Sentence], settings: SpeakSettings, say: Say) -> _SpokenReplies:
    """Write the sentences of the replies as a corpus of speech, if anybody says them."""
    if settings.reply_voice is None:
        return _SpokenReplies(0, 0.0, ())
    (folder / "audio").mkdir(parents=True)
    rows: list[tuple[str, str, str, Split]] = []
    too_long: list[LeftWritten] = []
    seconds = 0.0
    plans = [[plan_reply_speech(sentence, settings.reply_voice, settings.seed)] for sentence in sentences]
    recordings = log_progress(_say_in_blocks(plans, say), "speaking replies", len(plans))
    for sentence, audio in zip(sentences, recordings, strict=True):
        flaw = _find_long(audio)
        if flaw is not None:
            too_long.append(LeftWritten(sentence.where, flaw, sentence.text))
            continue
        name = f"audio/{sentence.split}_{len(rows):06}.flac"
        (folder / name).write_bytes(encode_flac(audio[0]))
        rows.append((name, sentence.text, settings.reply_voice, sentence.split))
        seconds += len(audio[0]) / RATE
    _write_table(folder / RECORDINGS, SPEECH_FIELDS, rows)
    return _SpokenReplies(len(rows), seconds, too_long)


def _say_in_blocks(plans: Sequence[Sequence[Utterance]], say: Say) -> Iterator[list[Samples]]:
    """The recordings of each group of utterances."""
    for start in range(0, len(plans), BLOCK):
        block = plans[start : start + BLOCK]
        recordings = iter(say([plan for group in block for plan in group]))
        for group in block:
            yield list(islice(recordings, len(group)))


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        flush(file)


def _write_dialogues(draft: Path, plan: _Plan, spoken: Mapping[tuple[str, int], tuple[str, ...]]) -> None:
    copies = _Copies(draft, plan.folder)
    with (draft / DIALOGUES).open("w", encoding="utf-8", newline="\n") as file:
        for row in log_progress(plan.rows, "writing dialogues", len(plan.rows)):
            messages = [
                {"role": message.role, "content": _content(message, spoken.get((row.id, number), ()), copies)}
                for number, message in enumerate(row.messages)
            ]
            value = {"messages": messages, "task": row.task, "id": row.id, "split": plan.splits[row.id]}
            worse = {"rejected": row.rejected} if row.rejected is not None else {}
            file.write(json.dumps(value | worse, ensure_ascii=False) + "\n")
        flush(file)


def _content(message: MessageRow, recordings: Sequence[str], copies: "_Copies") -> str | list[dict[str, str]]:
    """What a message consists of, recordings in the places of its texts if there are any."""
    said = iter(recordings)
    parts: list[dict[str, str]] = []
    for part in (*message.parts, *message.spoken):
        if isinstance(part, MediaFile):
            parts.append({"type": part.kind, part.kind: copies.place(part)})
        elif recordings:
            parts.append({"type": "audio", "audio": next(said)})
        else:
            parts.append({"type": "text", "text": part})
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


class _Copies:
    """Copies of images and recordings, each once, under their paths below the folder that they come from."""

    def __init__(self, draft: Path, folder: Path) -> None:
        self._draft, self._folder = draft, folder
        self._places: dict[Path, str] = {}

    def place(self, media: MediaFile) -> str:
        """The path of a copy; it is made when it is first asked for."""
        if media.file not in self._places:
            place = self._new_place(media)
            (self._draft / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(media.file, self._draft / place)
            self._places[media.file] = place.as_posix()
        return self._places[media.file]

    def _new_place(self, media: MediaFile) -> Path:
        """A path that no other file has; what lies in the cache is known by its name alone."""
        room = "recordings" if media.kind == "audio" else f"{media.kind}s"
        is_below = media.file.is_relative_to(self._folder)
        path = media.file.relative_to(self._folder) if is_below else Path(media.file.name)
        place = path if path.parts[0] == room else room / path
        while (self._draft / place).exists():
            place = room / Path("more") / place
        return place
