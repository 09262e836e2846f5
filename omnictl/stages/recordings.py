"""The recordings that a stage of speech trains on and is judged by, opened when they are needed: a model is used without them."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from omnictl.config.split import Split
from omnictl.data.manifest.quarantine import format_rows, refuse_too_many
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.corpus import BLOCK, Samples, SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet, open_set, statistics
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.transcripts.targets import Spelling
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig


class Recordings:
    """A corpus as one stage hears and spells it.

    Args:
        config: which corpus.
        mel: its features' settings.
        spelling: of its transcripts.
        cache: folder of the cache.
        usable: of the utterances to be trained on, those that can be.
    """

    def __init__(
        self,
        config: SpeechDataConfig,
        mel: MelConfig,
        spelling: Spelling,
        cache: Path,
        *,
        usable: Callable[[SpeechSet], SpeechSet],
    ) -> None:
        self.config, self.mel, self.spelling, self.cache, self._usable = config, mel, spelling, cache, usable
        self._splits: dict[Split, SpeechSet] = {}

    @cached_property
    def corpus(self) -> SpeechCorpus:
        """All of them.

        Raises:
            DataError: there is no such corpus.
        """
        return open_speech(self.config)

    @cached_property
    def training_set(self) -> SpeechSet:
        """What is trained on."""
        return self._usable(open_set(self.corpus, "train", self.mel, self.spelling, self.cache, speeds=self.config.speeds))

    def split(self, split: Split) -> SpeechSet:
        """What can be heard and spelled of a split to judge by.

        Raises:
            DataError: the split is empty, or nothing in it can be used.
        """
        if split not in self._splits:
            self._splits[split] = self._open(split)
        return self._splits[split]

    def _open(self, split: Split) -> SpeechSet:
        found = self._usable(open_set(self.corpus, split, self.mel, self.spelling, self.cache))
        if not found:
            raise DataError(
                f"nothing in the {split} split of {self.corpus.name} can be used:\n{format_rows(found.set_aside)}",
                where=self.corpus.name,
                fix=f"see all with `omnictl data check {self.corpus.name}`, and mend the rows or name others of the {split} split",
            )
        return found

    def sounds(self, split: Split, found: SpeechSet, rate: int) -> Iterator[Samples]:
        """`(n,)` samples at `rate` Hz of every utterance of a set of a split, in the order of their numbers."""
        wanted = set(found.numbers.tolist())
        for block in range(max(wanted) // BLOCK + 1):
            for number, sound in enumerate(self.corpus.sounds(split, block, rate), start=block * BLOCK):
                if number in wanted:
                    assert not isinstance(sound, DataError), "the features could be made of it"
                    yield sound

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation `(F,)` of the training set's features."""
        mean, std = statistics(self.training_set)
        return torch.from_numpy(mean), torch.from_numpy(std)

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows that are neither trained nor validated on, each with the reason."""
        return (*self.corpus.broken, *self.training_set.set_aside, *self.split("val").set_aside)

    def check(self) -> None:
        """Refuse data of which too much is broken.

        Raises:
            DataError: it is, or nothing is left to train on.
        """
        refuse_too_many(
            [*self.corpus.broken, *self.training_set.set_aside],
            usable=len(self.training_set),
            allowed=self.config.max_broken,
            source=self.corpus.name,
        )
