"""How much of the disk a stage's data takes: what the cache keeps of the built-in world, or files of one's own."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.text.corpus import TextDataConfig
from omnictl.features.media_encoders import MediaEncoder
from omnictl.nn.audio.mel import MelConfig
from omnictl.tinyworld.dialogues import SPOKEN_TASKS

TOKENS_OF_A_DOCUMENT, SECONDS_OF_A_SENTENCE = 85, 1.8
"""Of TinyWorld, on average."""

FEATURES_PER_SECOND = 12.5
"""That an audio encoder gives the Thinker."""

NUMBER_BYTES = 2
"""Tokens, mel frames and features are all kept in 16 bits."""


def data_bytes(data: Any, mel: MelConfig | None, encoders: Mapping[Any, MediaEncoder]) -> int:
    """Bytes that the cache keeps of the built-in world, or that files of one's own have: what is read again in every epoch.

    Args:
        data: of a stage's config.
        mel: how the stage hears, if it does.
        encoders: by kind of media, of a stage that joins them; their features are kept.
    """
    if tinyworld_seed(data.source) is None:
        return size_of([Path(data.source)])
    match data:
        case TextDataConfig():
            return NUMBER_BYTES * TOKENS_OF_A_DOCUMENT * (data.num_documents + 2 * data.num_eval_documents)
        case SpeechDataConfig():
            number = data.num_utterances * len(data.speeds) + 2 * data.num_eval_utterances
            return number * _sentence_bytes(mel or MelConfig())
        case DialogueDataConfig():
            return sum(_features_bytes(data, encoder) for encoder in encoders.values())
        case _:
            return 0  # scenes are drawn when they are looked at


def _sentence_bytes(mel: MelConfig) -> int:
    return int(SECONDS_OF_A_SENTENCE * mel.frames_hz) * mel.bins * NUMBER_BYTES


def _features_bytes(data: DialogueDataConfig, encoder: MediaEncoder) -> int:
    if encoder.grid is not None:
        rows, columns = encoder.grid
        return data.num_pictures * rows * columns * encoder.width * NUMBER_BYTES
    heard = [data.counts[task] for task in SPOKEN_TASKS if task in data.counts]
    features = int(SECONDS_OF_A_SENTENCE * FEATURES_PER_SECOND) * encoder.width * NUMBER_BYTES
    return sum(heard) * (features + _sentence_bytes(MelConfig()))


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files, and of all that is in folders."""
    files = chain.from_iterable([path] if path.is_file() else path.rglob("*") for path in paths)
    return sum(file.stat().st_size for file in files if file.is_file())
