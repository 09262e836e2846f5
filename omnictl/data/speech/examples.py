"""A split of a speech corpus to train on: features, spelled transcripts, and a record of every row that was set aside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.corpus import Recording, SpeechCorpus
from omnictl.data.speech.log_mels import FeatureStore, Int64, open_features
from omnictl.data.speech.transcripts.targets import Spelling
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.losses.ctc import min_frames

STATISTICS_FRAMES = 500_000
"""Frames from which mean and deviation are taken."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class SpeechSet:
    """The usable utterances of a split."""

    recordings: tuple[Recording, ...]
    texts: tuple[str, ...]
    """Normalised transcripts."""
    targets: tuple[list[int], ...]
    numbers: Int64
    """(n,) where each utterance stands in the stores."""
    stores: tuple[FeatureStore, ...]
    """One for each speed, the first the utterances' own."""
    set_aside: tuple[BrokenRow, ...]

    def __len__(self) -> int:
        return len(self.recordings)

    def features(self, index: int, speed: int = 0) -> Float32:
        """`(T, F)` log-mels of an utterance at the speed of that number."""
        return self.stores[speed].features(int(self.numbers[index]))

    def lengths(self, speed: int = 0) -> Int64:
        """`(n,)` mel frames of every utterance at the speed of that number."""
        return self.stores[speed].lengths[self.numbers]

    @cached_property
    def statistics(self) -> tuple[Float32, Float32]:
        """Mean and standard deviation `(F,)` of every mel bin."""
        order = np.random.default_rng(0).permutation(len(self))
        enough = np.searchsorted(np.cumsum(self.lengths()[order]), STATISTICS_FRAMES) + 1
        frames = np.concatenate([self.features(int(index)) for index in order[:enough]])
        return frames.mean(0, dtype=np.float64).astype(np.float32), frames.std(0, dtype=np.float64).astype(np.float32) + 1e-3

    def without(self, reasons: Mapping[int, str]) -> "SpeechSet":
        """The utterances but those of these indices, which are set aside, each with its reason."""
        keep = [index for index in range(len(self)) if index not in reasons]
        return self.select(keep, (_aside(self.recordings[index], reason) for index, reason in reasons.items()))

    def select(self, keep: Sequence[int], set_aside: Iterable[BrokenRow]) -> "SpeechSet":
        """The utterances of these indices, with a reason for each of the others."""
        return SpeechSet(
            tuple(self.recordings[i] for i in keep),
            tuple(self.texts[i] for i in keep),
            tuple(self.targets[i] for i in keep),
            self.numbers[np.array(keep, np.int64)],
            self.stores,
            (*self.set_aside, *set_aside),
        )


def open_set(
    corpus: SpeechCorpus, split: Split, mel: MelConfig, spelling: Spelling, cache: Path, *, speeds: Sequence[float] = (1.0,)
) -> SpeechSet:
    """The utterances of a split whose audio can be read and whose transcript can be spelled.

    Raises:
        DataError: the split is empty, or the cache cannot be written.
    """
    recordings = corpus.recordings(split)
    stores = tuple(open_features(corpus, split, mel, cache, speed=speed) for speed in speeds)
    flaws = [stores[0].broken.get(number) or spelling.find_flaw(recording.text) for number, recording in enumerate(recordings)]
    good = [number for number, flaw in enumerate(flaws) if flaw is None]
    texts = tuple(spelling.normalise(recordings[number].text) for number in good)
    return SpeechSet(
        recordings=tuple(recordings[number] for number in good),
        texts=texts,
        targets=tuple(map(spelling.encode, texts)),
        numbers=np.array(good, np.int64),
        stores=stores,
        set_aside=tuple(_aside(recording, flaw) for recording, flaw in zip(recordings, flaws, strict=True) if flaw),
    )


def _aside(recording: Recording, flaw: str) -> BrokenRow:
    return BrokenRow(recording.id, recording.where, flaw)


def find_infeasible(utterances: SpeechSet, emissions: int, mel: MelConfig) -> dict[int, str]:
    """The utterances too short for their transcripts at some speed, by index, each with the reason.

    Args:
        utterances: the utterances.
        emissions: symbols that the model may emit a frame of its own.
        mel: the features' settings.
    """
    shortest = np.min([utterances.lengths(speed) for speed in range(len(utterances.stores))], axis=0)  # (n,)
    hertz = mel.frames_hz / SUBSAMPLING * emissions
    reasons = {}
    for index, target in enumerate(utterances.targets):
        steps, needed = -(-int(shortest[index]) // SUBSAMPLING) * emissions, min_frames(target)
        if steps < needed:
            reasons[index] = f"too short for its transcript: {steps} steps at {hertz:g} Hz, CTC needs {needed}"
    return reasons


def drop_infeasible(utterances: SpeechSet, emissions: int, mel: MelConfig) -> SpeechSet:
    """The utterances that CTC can align, the others set aside with the reason."""
    return utterances.without(find_infeasible(utterances, emissions, mel))
