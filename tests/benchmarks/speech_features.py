"""Seconds that an hour of speech takes on one core of this machine, on its way from TinyWorld or a file to stored features.

python tests/benchmarks/speech_features.py
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from omnictl.data.audio.decoder import read_audio
from omnictl.data.audio.resample import resample
from omnictl.data.speech.corpus import Samples
from omnictl.nn.audio.mel import MelConfig, log_mel
from omnictl.tinyworld.speech.acoustics import record
from omnictl.tinyworld.speech.espeak import Request, SpeechBlock, speak
from omnictl.tinyworld.speech.utterances import utterance

UTTERANCES = 256
MEL = MelConfig()
PLANS = [utterance(0, "train", number) for number in range(UTTERANCES)]


def for_an_hour(name: str, seconds_of_audio: float, work: Callable[[], object]) -> None:
    """Print how long a piece of work takes, as if the audio were an hour."""
    began = time.perf_counter()
    work()
    print(f"{name:<36} {(time.perf_counter() - began) * 3600 / seconds_of_audio:6.1f} s")


def say() -> SpeechBlock:
    """The first block."""
    return speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in PLANS])


def at_the_rate_of_features(spoken: SpeechBlock) -> list[Samples]:
    """What espeak-ng said, resampled."""
    return [resample(samples.astype(np.float32) / np.float32(2**15), spoken.rate, MEL.sample_rate) for samples in spoken.samples]


def main() -> None:
    """Every stage of the way by itself."""
    torch.set_num_threads(1)
    spoken = say()
    clean = at_the_rate_of_features(spoken)
    recordings = [record(audio, plan, MEL.sample_rate) for audio, plan in zip(clean, PLANS, strict=True)]
    length = sum(map(len, recordings)) / MEL.sample_rate
    log_mel(recordings[0], MEL)  # makes the filters
    print(f"an hour of speech on one core, measured on {length:.0f} s of it")
    for_an_hour("espeak-ng", length, say)
    for_an_hour("22,050 to 16,000 Hz", length, lambda: at_the_rate_of_features(spoken))
    for_an_hour("echo, noise, level", length, lambda: [record(s, p, MEL.sample_rate) for s, p in zip(clean, PLANS, strict=True)])
    for_an_hour("log-mel", length, lambda: [log_mel(audio, MEL).numpy().astype(np.float16) for audio in recordings])
    for_an_hour(
        "another speed, with its log-mel", length, lambda: [log_mel(resample(audio, 17_600, 16_000), MEL) for audio in recordings]
    )
    with TemporaryDirectory() as folder:
        for suffix in ("flac", "ogg", "mp3"):
            path = Path(folder) / f"all.{suffix}"
            with soundfile.SoundFile(path, "w", MEL.sample_rate, 1) as file:
                for audio in recordings:  # not in one piece: libsndfile dies of a long OGG
                    file.write(audio)
            for_an_hour(f"reading {suffix.upper()}", length, lambda path=path: read_audio(path, rate=MEL.sample_rate))  # type: ignore[misc]


if __name__ == "__main__":
    main()
