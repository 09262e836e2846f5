"""Opens the speech that `data.source` names, TinyWorld or files, and its recordings as a stage hears and spells them."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from omnictl.config.split import Split
from omnictl.data.manifest.data_gate import DataGate
from omnictl.data.manifest.quarantine import format_rows
from omnictl.data.manifest.source import source_path, tinyworld_seed
from omnictl.data.speech.corpus import BLOCK, Samples, SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet, open_set
from omnictl.data.speech.file_corpus import SpeechFiles
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.data.speech.transcripts.targets import Pronunciation, Spelling, choose_pronunciation
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig

Recordings = DataGate[SpeechCorpus, SpeechSet]
"""A corpus of speech, by splits."""

Selection = Callable[[SpeechSet], SpeechSet]
"""Of the utterances of a set, those that a model can learn from or be judged by."""


class Standardised(Protocol):
    """A model that knows mean and deviation of its features."""

    mean: Tensor
    """(F,)"""
    std: Tensor
    """(F,)"""


def open_speech(config: SpeechDataConfig) -> SpeechCorpus:
    """The corpus that a config names.

    Raises:
        DataError: no such source, or nothing in it that can be used.
    """
    seed = tinyworld_seed(config.source)
    if seed is not None:
        return TinyWorldSpeech(seed, config.num_utterances, config.num_eval_utterances, config.voices)
    return SpeechFiles(find_speech(source_path(config.source)), config)


def pronunciation_of(config: SpeechDataConfig) -> Pronunciation:
    """How the texts of a corpus are read aloud."""
    return choose_pronunciation(config.symbols, config.language)


def select_all(utterances: SpeechSet) -> SpeechSet:
    """A set as it is."""
    return utterances


def open_recordings(
    config: SpeechDataConfig,
    mel: MelConfig,
    spelling: Spelling,
    cache: Path,
    *,
    trainable: Selection = select_all,
    judgeable: Selection = select_all,
    corpus: SpeechCorpus | None = None,
) -> Recordings:
    """The recordings of a corpus as one stage hears and spells them.

    Args:
        config: which corpus.
        mel: its features' settings.
        spelling: of its transcripts.
        cache: folder of the cache.
        trainable: of the training split, what can be trained on.
        judgeable: of a split, what can be judged by.
        corpus: the same corpus, if it is open already.
    """

    def open_split(corpus: SpeechCorpus, split: Split) -> SpeechSet:
        return _not_empty(judgeable(open_set(corpus, split, mel, spelling, cache)), corpus, split)

    def open_training(corpus: SpeechCorpus) -> SpeechSet:
        return trainable(open_set(corpus, "train", mel, spelling, cache, speeds=config.speeds))

    open_corpus = partial(open_speech, config) if corpus is None else lambda: corpus
    return DataGate(
        open_corpus, open_split, open_training=open_training, fingerprint=fingerprint_speech, max_broken=config.max_broken
    )


def fingerprint_speech(corpus: SpeechCorpus) -> str:
    """SHA-256 over what a corpus says, its recordings' sizes, and how it is split."""
    return corpus.contents_fingerprint if isinstance(corpus, SpeechFiles) else corpus.fingerprint


def _not_empty(utterances: SpeechSet, corpus: SpeechCorpus, split: Split) -> SpeechSet:
    if utterances:
        return utterances
    raise DataError(
        f"nothing in the {split} split of {corpus.name} can be used:\n{format_rows(utterances.set_aside)}",
        where=corpus.name,
        fix=f"see all with `omnictl data check {corpus.name}`, and mend the rows or name others of the {split} split",
    )


def first_utterances(utterances: SpeechSet, limit: int | None) -> SpeechSet:
    """The first so many utterances of a set; all of them if there are fewer, or no limit."""
    return utterances.select(range(min(limit or len(utterances), len(utterances))), ())


def read_recordings(corpus: SpeechCorpus, split: Split, utterances: SpeechSet, rate: int) -> Iterator[Samples]:
    """`(n,)` samples at `rate` Hz of every utterance of a set of a split, in the order of their numbers."""
    numbers = set(utterances.numbers.tolist())
    for block in range(max(numbers) // BLOCK + 1):
        for number, audio in enumerate(corpus.samples(split, block, rate), start=block * BLOCK):
            if number in numbers:
                assert not isinstance(audio, DataError), "the features could be made of it"
                yield audio


def take_statistics(model: Standardised, utterances: SpeechSet) -> None:
    """Let a model's features have mean 0 and deviation 1 over a set."""
    mean, std = utterances.statistics
    model.mean.copy_(torch.from_numpy(mean))
    model.std.copy_(torch.from_numpy(std))
