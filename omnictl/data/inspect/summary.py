"""How much there is of what, as far as it can be read: figures of a corpus, ready for JSON, with units in the keys."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from omnictl.config.split import SPLITS, Split
from omnictl.data.text.corpus import Corpus
from omnictl.errors import DataError
from omnictl.runs.progress_log import log_progress

if TYPE_CHECKING:  # sounds need torch, which takes seconds to load; images and text do not
    from omnictl.data.inspect.audio_files import AudioFacts
    from omnictl.data.inspect.dialogue_files import DialogueFacts
    from omnictl.data.inspect.image_files import ImageFacts


def speech_summary(heard: Sequence["AudioFacts"]) -> dict[str, object]:
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


def _size(heard: Sequence["AudioFacts"]) -> dict[str, float]:
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


def image_summary(seen: Sequence["ImageFacts"]) -> dict[str, object]:
    """Images and what is said of them in each split, and how labels, captions, sizes and formats are distributed.

    Labels and captions are counted by rows, the rest by images, of which some may have several rows.
    """
    images = {each.image.name: each.image for each in seen}.values()
    words = [len(each.caption.split()) for each in seen if each.caption is not None]
    names = sorted({name for each in seen for name in each.labels})
    return {
        "splits": {split: _shown([each for each in seen if each.split == split]) for split in SPLITS},
        "labels": {name: _counts(each.labels[name] for each in seen if name in each.labels) for name in names},
        **({"words_per_caption_mean": float(np.mean(words))} if words else {}),
        **_extent("shorter_side_pixels", [min(image.width, image.height) for image in images]),
        **_extent("longer_side_pixels", [max(image.width, image.height) for image in images]),
        "pictures_by_format": _counts(image.format for image in images),
    }


def _shown(seen: Sequence["ImageFacts"]) -> dict[str, int]:
    return {
        "pictures": len({each.image.name for each in seen}),
        "labelled": sum(bool(each.labels) for each in seen),
        "captions": sum(each.caption is not None for each in seen),
    }


def _extent(name: str, values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{name}_min": min(values), f"{name}_median": float(np.median(values)), f"{name}_max": max(values)}


def dialogue_summary(seen: Sequence["DialogueFacts"]) -> dict[str, object]:
    """Dialogues, images and sounds of each split, dialogues of each task, messages of each role, and how long dialogues are.

    Images and sounds are counted once in each split, however many dialogues have them.
    """
    tasks = dict.fromkeys(each.task for each in seen)
    sounds = {name: sound for each in seen for name, sound in each.sounds.items()}
    return {
        "splits": {split: _told([each for each in seen if each.split == split]) for split in SPLITS},
        "tasks": {task: _by_split(each for each in seen if each.task == task) for task in tasks},
        "messages_by_role": _counts(role for each in seen for role in each.roles),
        "spoken_replies": sum(each.num_replies for each in seen),
        **_extent("characters_per_dialogue", [each.characters for each in seen]),
        **_quantiles("seconds_per_sound", [sound.seconds for sound in sounds.values()]),
    }


def _by_split(seen: Iterable["DialogueFacts"]) -> dict[Split, int]:
    counts = Counter(each.split for each in seen)
    return {split: counts[split] for split in SPLITS}


def _told(seen: Sequence["DialogueFacts"]) -> dict[str, float]:
    sounds = {name: sound for each in seen for name, sound in each.sounds.items()}
    return {
        "dialogues": len(seen),
        "pictures": len({name for each in seen for name in each.images}),
        "sounds": len(sounds),
        "seconds": sum(sound.seconds for sound in sounds.values()),
    }


def text_summary(corpus: Corpus) -> dict[str, object]:
    """Documents, characters and UTF-8 bytes of each split."""
    return {"splits": {split: _text_size(corpus, split) for split in SPLITS}}


def _text_size(corpus: Corpus, split: Split) -> dict[str, int]:
    size = {"documents": 0, "characters": 0, "bytes": 0}
    try:
        documents = corpus.documents(split)
    except DataError:  # an empty split: every file was read to its end before
        return size
    for text in log_progress(documents, f"measuring documents of the {split} split"):
        size["documents"] += 1
        size["characters"] += len(text)
        size["bytes"] += len(text.encode())
    return size
