"""TinyWorld's sentences, spoken by its voices.

Only whole blocks can be spoken: the synthesiser keeps state from one utterance to the next.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.data.audio.resample import resample
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import tinyworld_name
from omnictl.data.speech.corpus import BLOCK, Recording, Samples, Voices
from omnictl.errors import DataError
from omnictl.tinyworld.speech.acoustics import record
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.utterances import Utterance, reply, utterance


@dataclass(frozen=True)
class TinyWorldSpeech:
    """Sentences of TinyWorld, spoken by espeak-ng."""

    seed: int
    num_utterances: int
    num_eval_utterances: int
    voices: Voices = "many"
    broken: Sequence[BrokenRow] = ()

    @property
    def name(self) -> str:
        """The value of `data.source` that speaks it again."""
        return tinyworld_name(self.seed)

    @cached_property
    def fingerprint(self) -> str:
        """Over its arguments and the first utterances of each split, which change when the world does."""
        digest = hashlib.sha256(repr(self).encode())
        counts: dict[Split, int] = {"train": 100, "val": 10, "test": 10}  # a held-out one takes twenty times as long
        for split, count in counts.items():
            for index in range(count):
                digest.update(repr(self._plan(split, index)).encode())
        return digest.hexdigest()

    def recordings(self, split: Split) -> Sequence[Recording]:
        """The utterances of a split in a fixed order."""
        return _recordings(self.seed, split, self._count(split), self.voices)

    def samples(self, split: Split, block: int, rate: int) -> Iterator[Samples | DataError]:
        """The samples of a split's utterances from `block · BLOCK` on, up to `BLOCK` of them: `(n,)` mono at `rate` Hz."""
        numbers = range(block * BLOCK, min((block + 1) * BLOCK, self._count(split)))
        plans = [self._plan(split, number) for number in numbers]
        spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
        for plan, samples in zip(plans, spoken.samples, strict=True):
            yield record_speech(plan, samples, spoken.rate, rate)

    def _plan(self, split: Split, number: int) -> Utterance:
        return _plan(self.seed, split, number, self.voices)

    def _count(self, split: Split) -> int:
        return self.num_utterances if split == "train" else self.num_eval_utterances


def _plan(seed: int, split: Split, number: int, voices: Voices) -> Utterance:
    return utterance(seed, split, number) if voices == "many" else reply(seed, split, number, 1 if voices == "one" else 6)


@lru_cache(maxsize=4)
def _recordings(seed: int, split: Split, count: int, voices: Voices) -> tuple[Recording, ...]:
    plans = (_plan(seed, split, number, voices) for number in range(count))
    return tuple(
        Recording(f"{split}/{number}", plan.text, plan.voice, f"tinyworld:{seed}/{split}/{number}", None)
        for number, plan in enumerate(plans)
    )


def record_speech(plan: Utterance, samples: NDArray[np.int16], spoken_rate: int, rate: int) -> Samples:
    """What espeak said, `(n,)` at its own rate, as it is recorded at another."""
    clean = samples.astype(np.float32) / np.float32(2**15)
    return record(resample(clean, spoken_rate, rate), plan, rate)
