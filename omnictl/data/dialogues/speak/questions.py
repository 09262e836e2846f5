"""What of written dialogues is to be said: the user's questions, and the sentences of the replies; by whom, and in what room.

All is a function of the seed and the dialogue's id: a larger share holds the questions of a smaller one, and one more dialogue
changes no other.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from omnictl.config.split import SPLITS, Split
from omnictl.data.dialogues.manifest import DialogueRow, MediaFile, MessageRow
from omnictl.data.manifest.splits import hash_text
from omnictl.data.speech.transcripts.spoken_text import spell_out
from omnictl.data.speech.transcripts.written_forms import expand_written_forms, find_unspeakable
from omnictl.tinyworld.speech.utterances import Utterance, draw_utterance, reply_utterance
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, UNSEEN_VOICES

UNSEEN_SHARE = 0.5
"""Of test dialogues, those in voices that no other split has."""

MOST_CHARACTERS = 1_000
"""Of a text that is worth saying: what is longer takes more than the 30 s that are trained on, however fast it is said."""

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


@dataclass(frozen=True)
class Cast:
    """Who asks."""

    voices: tuple[str, ...] = KNOWN_VOICES
    unseen: tuple[str, ...] = UNSEEN_VOICES
    """Voices of a part of the test split alone; none: it has those of the others."""


class LeftWritten(NamedTuple):
    """A text that stays written, and why."""

    where: str
    """File and line of its dialogue."""
    reason: str
    text: str


class Question(NamedTuple):
    """A message of the user's that is said."""

    row: DialogueRow
    message: int
    """Its number in the dialogue, from 0."""
    texts: tuple[str, ...]
    """Of its parts, as they are read aloud; images may stand between them."""

    @property
    def written(self) -> str:
        """As it was written."""
        return written_text(self.row.messages[self.message])


def written_text(message: MessageRow) -> str:
    """The texts of a message."""
    return " ".join(part for part in message.parts if isinstance(part, str))


def plan_questions(rows: Sequence[DialogueRow], share: float, seed: int) -> Iterator[Question | LeftWritten]:
    """The questions that are said, and those of the share that cannot be, in order."""
    for row in rows:
        for number, message in enumerate(row.messages):
            if message.role != "user" or not is_drawn(row.id, number, share, seed):
                continue
            texts = tuple(part for part in message.parts if isinstance(part, str))
            reason = _find_obstacle(message, texts)
            if reason is not None:
                yield LeftWritten(row.where, reason, written_text(message))
            elif texts:
                yield Question(row, number, tuple(map(expand_written_forms, texts)))


def is_drawn(row_id: str, message: int, share: float, seed: int) -> bool:
    """Whether a message is one of the share that is said."""
    return hash_text(f"speak/{seed}/{row_id}/{message}") < share * 2**64


def _find_obstacle(message: MessageRow, texts: Sequence[str]) -> str | None:
    if texts and any(isinstance(part, MediaFile) and part.kind == "audio" for part in message.parts):
        return "it stands beside a recording"
    return next((reason for text in texts if (reason := _why_unsaid(text)) is not None), None)


def _why_unsaid(text: str) -> str | None:
    if len(text) > MOST_CHARACTERS:
        return f"it is too long to be said in one go: {len(text):,} characters"
    return find_unspeakable(text)


def plan_speech(question: Question, split: Split, cast: Cast, seed: int) -> list[Utterance]:
    """How the texts of a question are said: a dialogue has one voice, in one room."""
    rng = Random(hash_text(f"voice/{seed}/{question.row.id}"))
    is_unseen = split == "test" and bool(cast.unseen) and rng.random() < UNSEEN_SHARE
    voices = cast.unseen if is_unseen else cast.voices
    manner = replace(draw_utterance(rng, "", unseen_voice=False), voice=voices[int(rng.random() * len(voices))])
    noise = Random(hash_text(f"noise/{seed}/{question.row.id}/{question.message}"))
    return [replace(manner, text=text, seed=int(noise.random() * 2**32)) for text in question.texts]


class Sentence(NamedTuple):
    """A sentence of a reply, once, however many replies have it."""

    text: str
    split: Split
    """The first of `SPLITS` that has it: what is trained on is in no other."""
    where: str


def plan_replies(rows: Mapping[Split, Sequence[DialogueRow]]) -> Iterator[Sentence | LeftWritten]:
    """The different sentences of the assistant's replies, and what of them cannot be said."""
    known: set[str] = set()
    replies = ((split, row.where, message) for split in SPLITS for row in rows[split] for message in row.messages)
    for split, where, message in replies:
        if message.role != "assistant":
            continue
        reason = find_unspeakable(written_text(message))
        if reason is not None:
            yield LeftWritten(where, reason, written_text(message))
            continue
        for sentence in _SENTENCE_END.split(expand_written_forms(written_text(message))):
            key = spell_out(sentence)
            if key in known or not key:
                continue
            known.add(key)
            too_long = _why_unsaid(sentence)
            yield Sentence(sentence, split, where) if too_long is None else LeftWritten(where, too_long, sentence)


def plan_reply_speech(sentence: Sentence, voice: str, seed: int) -> Utterance:
    """How a sentence is said: clear and close, always in the same voice."""
    return reply_utterance(Random(hash_text(f"reply/{seed}/{sentence.text}")), sentence.text, voice)
