"""What is said in TinyWorld, by whom and how: sentences of its documents, each a pure function of (seed, split, index).

Every sentence belongs to one split for good, by the hash of its words, so a sentence of the test split is new to whoever was
trained on this world, whatever the seed; its words are not, because short sentences, which may be the only ones with some word,
are all trained on. Half of the test split is spoken by voices that are heard nowhere else.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from random import Random

from omnictl.config.split import Split
from omnictl.tinyworld.language import grammar
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, REPLY_VOICE, REPLY_VOICES, UNSEEN_VOICES
from omnictl.tinyworld.text.documents import write_spoken

MOST_WORDS = 12
"""Of a spoken sentence."""

REPLY_RATE = 140
"""Words a minute of the voice of replies."""
REPLY_SNR_DB = 60.0

FEWEST_UNSEEN_WORDS = 5
"""Of a sentence of the validation or test split."""

_MARKUP = re.compile("|".join(re.escape(mark) for mark in (ANSWER, NEXT_USER, CLOSE, USER)))
_SENTENCE = re.compile(r"[^.?!]+[.?!]")


@dataclass(frozen=True)
class Utterance:
    """A sentence as one voice says it once, and the room and the microphone."""

    text: str
    voice: str
    rate: int
    """Words a minute."""
    pitch: int
    """espeak's scale from 0 to 99; 50 is the voice's own."""
    gain_db: float
    """Level of the recording."""
    lead_seconds: float
    """Silence before the first word."""
    snr_db: float
    """Level of the speech over the noise."""
    noise_tilt: float
    """0 is white noise, 1 pink."""
    reverb: float
    """Loudness of the room's echo beside the voice, 0 in the open."""
    reverb_seconds: float
    """Until the echo has faded by 60 dB."""
    seed: int
    """Of the noise and the echo."""


@lru_cache(maxsize=1024)
def utterance(seed: int, split: Split, index: int) -> Utterance:
    """One utterance of the world, the same on every machine and Python version."""
    rng = Random(_hash(f"speech/{seed}/{split}/{index}"))
    text = next(sentence for sentence in _sentences(rng) if split_of_sentence(sentence) == split)
    return draw_utterance(rng, text, unseen_voice=split == "test" and index % 2 == 1)


def draw_utterance(rng: Random, text: str, *, unseen_voice: bool) -> Utterance:
    """A text in any voice and any room, drawn from `rng`; by a voice that is heard nowhere else, or one of the others."""
    voices = UNSEEN_VOICES if unseen_voice else KNOWN_VOICES
    return Utterance(
        text=text,
        voice=voices[int(rng.random() * len(voices))],
        rate=round(_between(rng, 135, 190)),
        pitch=round(_between(rng, 30, 70)),
        gain_db=_between(rng, -12, 0),
        lead_seconds=_between(rng, 0.0, 0.2),
        snr_db=_between(rng, 15, 45),
        noise_tilt=_between(rng, 0, 1),
        reverb=_between(rng, 0.0, 0.3) if rng.random() < 0.5 else 0.0,
        reverb_seconds=_between(rng, 0.1, 0.4),
        seed=int(rng.random() * 2**32),
    )


@lru_cache(maxsize=1024)
def reply(seed: int, split: Split, index: int, num_voices: int = 1) -> Utterance:
    """One sentence in a voice of the world's replies, clear and close, the same on every machine and Python version.

    The voices take turns.
    """
    rng = Random(_hash(f"reply/{seed}/{split}/{index}"))
    text = next(sentence for sentence in _sentences(rng) if split_of_sentence(sentence) == split)
    return reply_utterance(rng, text, REPLY_VOICES[index % num_voices])


def reply_utterance(rng: Random, text: str, voice: str = REPLY_VOICE) -> Utterance:
    """A text in a voice of the world's replies."""
    return Utterance(
        text=text,
        voice=voice,
        rate=REPLY_RATE,
        pitch=50,
        gain_db=0.0,
        lead_seconds=0.0,
        snr_db=REPLY_SNR_DB,
        noise_tilt=1.0,
        reverb=0.0,
        reverb_seconds=0.1,
        seed=int(rng.random() * 2**32),
    )


def _sentences(rng: Random) -> Iterator[str]:
    """Sentences out of endless documents, one of each."""
    while True:
        text = _MARKUP.sub(" ", grammar.sample(write_spoken, rng))
        sentences = [match.strip() for match in _SENTENCE.findall(text)]
        speakable = [sentence for sentence in sentences if len(sentence.split()) <= MOST_WORDS]
        if speakable:
            yield speakable[int(rng.random() * len(speakable))]


def split_of_sentence(sentence: str) -> Split:
    """The split that a sentence belongs to, whoever says it; short ones are all trained on."""
    if len(sentence.split()) < FEWEST_UNSEEN_WORDS:
        return "train"
    place = _hash(sentence) % 100
    return "train" if place < 90 else "val" if place < 95 else "test"


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")


def _between(rng: Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()
