"""How much there is of what, as far as it can be read: figures of a corpus, ready for JSON, with units in the keys."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from omnictl.data.corpus import Corpus
from omnictl.data.progress import told
from omnictl.data.sounds import Heard
from omnictl.data.text_files import SPLITS, Split
from omnictl.errors import DataError


def speech_summary(heard: Sequence[Heard]) -> dict[str, object]:
    """Hours and speakers of each split, and how lengths, speaking rates, sample rates, channels and speakers are distributed."""
    texts = {split: {each.text for each in heard if each.split == split and each.text} for split in SPLITS}
    return {
        "splits": {split: _size([each for each in heard if each.split == split]) for split in SPLITS},
        **_quantiles("seconds", [each.sound.seconds for each in heard]),
        **_quantiles("characters_per_second", [len(each.text) / each.sound.seconds for each in heard if each.text]),
        "utterances_by_rate_hz": _counts(each.sound.rate for each in heard),
        "utterances_by_channels": _counts(each.sound.channels for each in heard),
        "utterances_by_speaker": _counts(each.recording.speaker for each in heard if each.recording.speaker is not None),
        "texts_in_train_and_test": len(texts["train"] & texts["test"]),
    }


def _size(heard: Sequence[Heard]) -> dict[str, float]:
    speakers = {each.recording.speaker for each in heard} - {None}
    hours = sum(each.sound.seconds for each in heard) / 3600
    return {"utterances": len(heard), "hours": hours, "speakers": len(speakers)}


def _quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    quantiles = np.quantile(values, [0, 0.5, 0.95, 1]).tolist()
    return dict(zip((f"{name}_min", f"{name}_median", f"{name}_p95", f"{name}_max"), quantiles, strict=True))


def _counts(values: Iterable[str | int]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return {str(value): count for value, count in Counter(values).most_common()}


def text_summary(corpus: Corpus) -> dict[str, object]:
    """Documents, characters and UTF-8 bytes of each split."""
    return {"splits": {split: _text_size(corpus, split) for split in SPLITS}}


def _text_size(corpus: Corpus, split: Split) -> dict[str, int]:
    size = {"documents": 0, "characters": 0, "bytes": 0}
    try:
        documents = corpus.documents(split)
    except DataError:  # an empty split: every file was read to its end before
        return size
    for text in told(documents, f"measuring documents of the {split} split"):
        size["documents"] += 1
        size["characters"] += len(text)
        size["bytes"] += len(text.encode())
    return size
