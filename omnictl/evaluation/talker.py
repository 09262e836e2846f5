"""How well speech is understood, rung by rung: as recorded, through the codec, with the recording's help, by the Talker alone.

A recogniser writes down what it hears, and its errors are counted against the text. Each rung can only lose: what is wrong about
the recording is the recogniser's own floor, resynthesis adds what the codes lose, the teacher-forced rung what the Talker mistakes
in the next frame, and free running what follows from its own mistakes and durations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from omnictl.data.audio.files import wav_bytes
from omnictl.data.audio.resample import resample
from omnictl.data.speech.corpus import Recording, Samples
from omnictl.data.speech.transcripts.spoken_text import speech_text
from omnictl.generate.griffin_lim import synthesise
from omnictl.generate.tts import Voice, say, time_speech
from omnictl.metrics.figures import spectrogram_image
from omnictl.metrics.intelligibility import RATE, quality, quality_estimates
from omnictl.metrics.intervals import Estimate
from omnictl.metrics.shuffle import shuffled_inputs
from omnictl.metrics.speech import by_pair, character_errors, word_errors
from omnictl.metrics.verdict import judge_talker
from omnictl.nn.audio.mel import log_mel
from omnictl.trainer.stage import Report

RUNGS = ("original", "resynthesis", "teacher_forced", "free_running")

SHOWN = 5
"""Sentences kept for people to hear and see."""

SHUFFLE_SEED = 0


class Judge(Protocol):
    """A recogniser."""

    @property
    def rate(self) -> int:
        """Samples a second that it hears."""
        ...

    def read(self, sound: Samples) -> str:
        """What is said in `(n,)` samples, n ≥ 1."""
        ...


@dataclass(frozen=True)
class Sentence:
    """A sentence to be judged."""

    text: str
    """As it is read aloud."""
    original: Samples
    """`(n,)` at the vocoder's rate."""
    codes: Tensor
    """`(K, S)` of the recording."""
    guessed: Tensor
    """`(K, S)` the likeliest, each after the recorded ones before it."""
    speaker: int


@dataclass(frozen=True)
class SpokenSentence:
    """What became of a sentence; sounds and words by rung."""

    text: str
    """Without marks."""
    sounds: Mapping[str, Samples]
    heard: Mapping[str, str]
    first_seconds: float
    """Until the Talker's first sound."""
    seconds: float
    """Until its last."""


@dataclass(frozen=True)
class Ladder:
    """A voice and who judges it."""

    voice: Voice
    judge: Judge
    seed: int
    """Of what is drawn."""

    def climb(self, example: Sentence) -> SpokenSentence:
        """Every rung of one sentence."""
        spoken = time_speech(self._say(example.text, example.speaker))
        sounds = {
            "original": example.original,
            "resynthesis": self._sound(example.codes),
            "teacher_forced": self._sound(example.guessed),
            "free_running": spoken.sound,
        }
        heard = {rung: self._read(sound) for rung, sound in sounds.items()}
        return SpokenSentence(speech_text(example.text), sounds, heard, spoken.first_seconds, spoken.seconds)

    def hear(self, text: str, speaker: int) -> str:
        """What the judge understands of a text that the Talker says."""
        return self._read(self.sound(text, speaker))

    def sound(self, text: str, speaker: int) -> Samples:
        """`(n,)` samples of a text that the Talker says."""
        return np.concatenate(list(self._say(text, speaker)))

    def _say(self, text: str, speaker: int) -> Iterator[Samples]:
        return say(self.voice, [text], torch.Generator().manual_seed(self.seed), speaker=speaker)

    @torch.no_grad()
    def _sound(self, codes: Tensor) -> Samples:
        codec = self.voice.codec
        return synthesise(self.voice.vocoder, codec.decode(codes.to(codec.mean.device)[None])[0].cpu())

    def _read(self, sound: Samples) -> str:
        return self.judge.read(resample(sound, self.voice.vocoder.sample_rate, self.judge.rate))


def ladder_report(
    recordings: Sequence[Recording], said: Sequence[SpokenSentence], voice: Voice, metrics: Mapping[str, float], untrained: Estimate
) -> Report:
    """The report of a split.

    Args:
        recordings: the sentences' ids.
        said: what became of each.
        voice: who said it.
        metrics: what else was measured.
        untrained: the character error rate of a Talker that has learned nothing.
    """
    rate = voice.vocoder.sample_rate
    texts = [one.text for one in said]
    shuffled = shuffled_inputs(len(said), SHUFFLE_SEED)
    free = [one.heard["free_running"] for one in said]
    exchanged = [texts[i] for i in shuffled]
    controls = dict(_rates(texts, [free[i] for i in shuffled]))
    estimates = {
        f"{kind}_{rung}": one.against(f"{kind}_shuffled_text", controls[kind], "lower")
        for rung in reversed(RUNGS)
        for kind, one in _rates(texts, [one.heard[rung] for one in said])
    }
    sounds_like = _quality(said, rate)
    shown = list(zip(recordings, said, strict=True))[:SHOWN]
    return Report(
        "cer_free_running",
        "lower",
        {
            **{name: one.value for name, one in estimates.items()},
            **metrics,
            **{name: one.value for name, one in sounds_like.items()},
            "real_time_factor": sum(one.seconds for one in said) * rate / sum(len(one.sounds["free_running"]) for one in said),
            "first_audio_seconds": median(one.first_seconds for one in said),
        },
        len(said),
        controls={
            "cer_shuffled_text": controls["cer"].value,
            "cer_shuffled_text_floor": character_errors(texts, exchanged).rate,
            "cer_untrained": untrained.value,
            "wer_shuffled_text": controls["wer"].value,
        },
        estimates={**estimates, **sounds_like},
        verdict=judge_talker(estimates, untrained),
        predictions=[
            {"id": row.id, "task": "say", "reference": one.text, "prediction": one.heard["free_running"], **_others(one)}
            for row, one in zip(recordings, said, strict=True)
        ],
        pictures={f"{_file_name(row)}.png": _image(one, voice) for row, one in shown},
        sounds={f"{_file_name(row)}_{rung}.wav": wav_bytes(one.sounds[rung], rate) for row, one in shown for rung in RUNGS},
    )


def _rates(texts: Sequence[str], heard: Sequence[str]) -> list[tuple[str, Estimate]]:
    return [("cer", by_pair(character_errors, texts, heard)), ("wer", by_pair(word_errors, texts, heard))]


def _quality(said: Sequence[SpokenSentence], rate: int) -> dict[str, Estimate]:
    """How much the resynthesis sounds like the recordings, by what of STOI and PESQ is installed."""
    pairs = [[resample(one.sounds[rung], rate, RATE) for rung in ("original", "resynthesis")] for one in said]
    return {f"{name}_resynthesis": value for name, value in quality_estimates([quality(*pair) for pair in pairs]).items()}


def _others(one: SpokenSentence) -> dict[str, str]:
    return {f"heard_{rung}": one.heard[rung] for rung in RUNGS if rung != "free_running"}


def _image(one: SpokenSentence, voice: Voice) -> bytes:
    mel = voice.codec.config.mel
    return spectrogram_image({f"{rung}: {one.heard[rung]}": log_mel(sound, mel).numpy() for rung, sound in one.sounds.items()})


def _file_name(recording: Recording) -> str:
    return "".join(character if character.isalnum() else "-" for character in recording.id)
