"""A split of recordings turned into codes and durations by a trained codec and a trained aligner, once, into the cache."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from omnictl.config.split import Split
from omnictl.data.manifest.cache import flush, read_or_build
from omnictl.data.speech.batches.codes import CodedSpeech
from omnictl.data.speech.examples import SpeechSet
from omnictl.features.recogniser_durations import Alignment
from omnictl.models.codec import Codec

_FORMAT = 1

OpenAlignment = Callable[[Path, torch.device, Path], Alignment]
"""Opens a model folder on a device; the second folder is the cache."""


def code_speech(
    utterances: SpeechSet,
    split: Split,
    speakers: Sequence[int],
    codec: Codec,
    parts: Mapping[str, Path],
    open_alignment: OpenAlignment,
    cache: Path,
) -> CodedSpeech:
    """The utterances in codes, from the cache if they were made before.

    Args:
        utterances: the utterances.
        split: which they are.
        speakers: the number of who says each.
        codec: the trained codec.
        parts: model folders of the codec and the aligner.
        open_alignment: opens the aligner's.
        cache: folder of the cache.
    """
    frames = [-(-int(length) // codec.config.stride) for length in utterances.lengths()]
    sizes = [len(target) for target in utterances.targets]
    digest = hashlib.sha256(repr((_FORMAT, split, utterances.stores[0].fingerprint, frames, utterances.targets)).encode())
    for name in ("codec", "aligner"):
        digest.update((parts[name] / "config.json").read_bytes())
        digest.update((parts[name] / "model.safetensors").read_bytes())
    books = codec.config.quantiser.books
    folder = cache / "codes" / digest.hexdigest()[:32]
    codes, durations = read_or_build(
        folder,
        partial(_read, shapes=((sum(frames), books), (sum(sizes),))),
        partial(_write, utterances, codec, parts["aligner"], open_alignment, cache),
    )
    return CodedSpeech(
        symbols=utterances.targets,
        speakers=speakers,
        codes=[part.T for part in np.split(codes, np.cumsum(frames)[:-1])],
        durations=[part.astype(np.int64) for part in np.split(durations, np.cumsum(sizes)[:-1])],
        places=[recording.where for recording in utterances.recordings],
    )


def _read(folder: Path, shapes: tuple[tuple[int, ...], ...]) -> tuple[NDArray[np.int16], NDArray[np.int16]] | None:
    try:
        codes, durations = (np.fromfile(folder / name, np.int16) for name in ("codes.bin", "durations.bin"))
        return codes.reshape(shapes[0]), durations.reshape(shapes[1])
    except (OSError, ValueError):
        return None


def _write(utterances: SpeechSet, codec: Codec, aligner: Path, open_alignment: OpenAlignment, cache: Path, folder: Path) -> None:
    device = codec.mean.device
    # A stage that is opened draws weights. A split may be coded in the midst of training, or before, or lie in the cache.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        alignment = open_alignment(aligner, device, cache)
    times = alignment.durations(utterances)
    with (folder / "durations.bin").open("wb") as file:
        file.write(np.concatenate(times).astype(np.int16).tobytes())
        flush(file)
    with (folder / "codes.bin").open("wb") as file:
        for index in range(len(utterances)):
            with torch.no_grad():
                codes = codec.encode(torch.from_numpy(utterances.features(index)).to(device)[None])[0]  # (K, S)
            file.write(codes.T.cpu().numpy().astype(np.int16).tobytes())
        flush(file)
