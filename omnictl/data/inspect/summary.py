"""How much there is of what, as far as it can be read: figures of a corpus, ready for JSON, with units in the keys."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from omnictl.config.split import SPLITS, Split
from omnictl.data.text.corpus import Corpus
from omnictl.errors import DataError
from omnictl.progress import log_progress

if TYPE_CHECKING:  # audio needs torch, which takes seconds to load; images and text do not
    from omnictl.data.inspect.audio_files import AudioFacts
    from omnictl.data.inspect.dialogue_files import DialogueFacts
    from omnictl.data.inspect.image_files import ImageFacts


def speech_summary(recordings: Sequence["AudioFacts"]) -> dict[str, object]:
    """Hours and speakers of each split, and how lengths, speaking rates, sample rates, channels and speakers are distributed."""
    texts = {split: {row.text for row in recordings if row.split == split and row.text} for split in SPLITS}
    return {
        "splits": {split: _speech_size([row for row in recordings if row.split == split]) for split in SPLITS},
        **_quantiles("seconds", [row.audio.seconds for row in recordings]),
        **_quantiles("characters_per_second", [len(row.text) / row.audio.seconds for row in recordings if row.text]),
        "utterances_by_rate_hz": _counts(row.audio.rate for row in recordings),
        "utterances_by_channels": _counts(row.audio.channels for row in recordings),
        "utterances_by_speaker": _counts(row.recording.speaker for row in recordings if row.recording.speaker is not None),
        "texts_in_train_and_test": len(texts["train"] & texts["test"]),
    }


def _speech_size(recordings: Sequence["AudioFacts"]) -> dict[str, float]:
    speakers = {row.recording.speaker for row in recordings} - {None}
    hours = sum(row.audio.seconds for row in recordings) / 3600
    return {"utterances": len(recordings), "hours": hours, "speakers": len(speakers)}


def _quantiles(name: str, values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    quantiles = np.quantile(values, [0, 0.5, 0.95, 1]).tolist()
    return dict(zip((f"{name}_min", f"{name}_median", f"{name}_p95", f"{name}_max"), quantiles, strict=True))


def _counts(values: Iterable[str | int]) -> dict[str, int]:
    """How often each occurs, the commonest first."""
    return {str(value): count for value, count in Counter(values).most_common()}


def image_summary(rows: Sequence["ImageFacts"]) -> dict[str, object]:
    """Images and what is said of them in each split, and how labels, captions, sizes and formats are distributed.

    Labels and captions are counted by rows, the rest by images, of which some may have several rows.
    """
    images = {row.image.name: row.image for row in rows}.values()
    words = [len(row.caption.split()) for row in rows if row.caption is not None]
    names = sorted({name for row in rows for name in row.labels})
    return {
        "splits": {split: _image_size([row for row in rows if row.split == split]) for split in SPLITS},
        "labels": {name: _counts(row.labels[name] for row in rows if name in row.labels) for name in names},
        **({"words_per_caption_mean": float(np.mean(words))} if words else {}),
        **_extent("shorter_side_pixels", [min(image.width, image.height) for image in images]),
        **_extent("longer_side_pixels", [max(image.width, image.height) for image in images]),
        "pictures_by_format": _counts(image.format for image in images),
    }


def _image_size(rows: Sequence["ImageFacts"]) -> dict[str, int]:
    return {
        "pictures": len({row.image.name for row in rows}),
        "labelled": sum(bool(row.labels) for row in rows),
        "captions": sum(row.caption is not None for row in rows),
    }


def _extent(name: str, values: Sequence[int]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{name}_min": min(values), f"{name}_median": float(np.median(values)), f"{name}_max": max(values)}


def dialogue_summary(dialogues: Sequence["DialogueFacts"]) -> dict[str, object]:
    """Dialogues, images and recordings of each split, dialogues of each task, messages of each role, and how long dialogues are.

    Images and recordings are counted once in each split, however many dialogues have them.
    """
    tasks = dict.fromkeys(row.task for row in dialogues)
    recordings = {name: audio for row in dialogues for name, audio in row.recordings.items()}
    return {
        "splits": {split: _dialogue_size([row for row in dialogues if row.split == split]) for split in SPLITS},
        "tasks": {task: _by_split(row for row in dialogues if row.task == task) for task in tasks},
        "messages_by_role": _counts(role for row in dialogues for role in row.roles),
        "spoken_replies": sum(row.num_replies for row in dialogues),
        **_extent("characters_per_dialogue", [row.characters for row in dialogues]),
        **_quantiles("seconds_per_sound", [audio.seconds for audio in recordings.values()]),
    }


def _by_split(dialogues: Iterable["DialogueFacts"]) -> dict[Split, int]:
    counts = Counter(row.split for row in dialogues)
    return {split: counts[split] for split in SPLITS}


def _dialogue_size(dialogues: Sequence["DialogueFacts"]) -> dict[str, float]:
    recordings = {name: audio for row in dialogues for name, audio in row.recordings.items()}
    return {
        "dialogues": len(dialogues),
        "pictures": len({name for row in dialogues for name in row.images}),
        "sounds": len(recordings),
        "seconds": sum(audio.seconds for audio in recordings.values()),
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
