"""How well speech is understood, rung by rung: as recorded, through the codec, with the recording's help, by the Talker alone.

A recogniser writes down what it hears, and its errors are counted against the text. Each rung can only lose: what is wrong about
the recording is the recogniser's own floor, resynthesis adds what the codes lose, the teacher-forced rung what the Talker mistakes
in the next frame, and free running what follows from its own mistakes and durations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.audio.resample import resample
from omnictl.data.speech.corpus import Recording, Samples
from omnictl.evaluation.alignment_images import ALIGNED, SUFFIX, planned_times, speech_image, symbol_times
from omnictl.generate.griffin_lim import synthesise
from omnictl.generate.tts import Voice, say, time_speech
from omnictl.metrics.error_rates import by_pair, character_errors, word_errors
from omnictl.metrics.figures import TimedText, spectrogram_image
from omnictl.metrics.intelligibility import RATE, quality, quality_estimates
from omnictl.metrics.intervals import Estimate
from omnictl.metrics.shuffled_control import shuffled_inputs
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

    def read(self, audio: Samples) -> str:
        """What is said in `(n,)` samples, n ≥ 1."""
        ...


@dataclass(frozen=True)
class Sentence:
    """A sentence to be judged."""

    text: str
    """To be said."""
    original: Samples
    """`(n,)` at the vocoder's rate."""
    codes: Tensor
    """`(K, S)` of the recording."""
    guessed: Tensor
    """`(K, S)` the likeliest, each after the recorded ones before it."""
    speaker: int
    durations: Sequence[int] = ()
    """Sub-frames of each symbol of the recording, if they are known."""
    symbols: str = ""
    """These symbols, if they are not the text itself."""


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence after its evaluation: audio and transcripts by rung."""

    text: str
    """Without marks."""
    audio: Mapping[str, Samples]
    transcripts: Mapping[str, str]
    first_seconds: float
    """Until the Talker's first audio."""
    seconds: float
    """Until its last."""
    times: Mapping[str, Sequence[TimedText]] = field(default_factory=dict)
    """By rung when each symbol is said, in mel frames, where that is known."""


@dataclass(frozen=True)
class TalkerEvaluator:
    """Evaluates a voice with a recogniser as its judge."""

    voice: Voice
    judge: Judge
    seed: int
    """Of what is drawn."""

    def evaluate(self, example: Sentence) -> SpokenSentence:
        """Evaluate one sentence on every rung."""
        spoken = time_speech(self._say(example.text, example.speaker))
        by_rung = {
            "original": example.original,
            "resynthesis": self._audio(example.codes),
            "teacher_forced": self._audio(example.guessed),
            "free_running": spoken.audio,
        }
        transcripts = {rung: self.read(audio) for rung, audio in by_rung.items()}
        times = {"free_running": planned_times(self.voice, example.text, example.speaker)}
        if len(example.durations):
            times["original"] = symbol_times(example.symbols or example.text, example.durations)
        return SpokenSentence(
            self.voice.pronunciation.words(example.text), by_rung, transcripts, spoken.first_seconds, spoken.seconds, times
        )

    def transcribe(self, text: str, speaker: int) -> str:
        """What the judge understands of a text that the Talker says."""
        return self.read(self.synthesise(text, speaker))

    def synthesise(self, text: str, speaker: int) -> Samples:
        """`(n,)` samples of a text that the Talker says."""
        return np.concatenate(list(self._say(text, speaker)))

    def _say(self, text: str, speaker: int) -> Iterator[Samples]:
        return say(self.voice, [text], torch.Generator().manual_seed(self.seed), speaker=speaker)

    @torch.no_grad()
    def _audio(self, codes: Tensor) -> Samples:
        codec = self.voice.codec
        return synthesise(self.voice.vocoder, codec.decode(codes.to(codec.mean.device)[None])[0].cpu())

    def read(self, audio: Samples) -> str:
        """What the judge understands of `(n,)` samples at the vocoder's rate."""
        return self.judge.read(resample(audio, self.voice.vocoder.sample_rate, self.judge.rate))


def talker_report(
    recordings: Sequence[Recording],
    sentences: Sequence[SpokenSentence],
    voice: Voice,
    metrics: Mapping[str, float],
    untrained: Estimate,
) -> Report:
    """The report of a split.

    Args:
        recordings: the sentences' ids.
        sentences: what became of each.
        voice: who said it.
        metrics: what else was measured.
        untrained: the character error rate of a Talker that has learned nothing.
    """
    rate = voice.vocoder.sample_rate
    texts = [sentence.text for sentence in sentences]
    shuffled = shuffled_inputs(len(sentences), SHUFFLE_SEED)
    free = [sentence.transcripts["free_running"] for sentence in sentences]
    exchanged = [texts[i] for i in shuffled]
    controls = dict(_rates(texts, [free[i] for i in shuffled]))
    estimates = {
        f"{kind}_{rung}": estimate.against(f"{kind}_shuffled_text", controls[kind], "lower")
        for rung in reversed(RUNGS)
        for kind, estimate in _rates(texts, [sentence.transcripts[rung] for sentence in sentences])
    }
    quality_of_speech = _quality(sentences, rate)
    kept = list(zip(recordings, sentences, strict=True))[:SHOWN]
    return Report(
        "cer_free_running",
        "lower",
        {
            **{name: estimate.value for name, estimate in estimates.items()},
            **metrics,
            **{name: estimate.value for name, estimate in quality_of_speech.items()},
            "real_time_factor": sum(sentence.seconds for sentence in sentences)
            * rate
            / sum(len(sentence.audio["free_running"]) for sentence in sentences),
            "first_audio_seconds": median(sentence.first_seconds for sentence in sentences),
        },
        len(sentences),
        controls={
            "cer_shuffled_text": controls["cer"].value,
            "cer_shuffled_text_floor": character_errors(texts, exchanged).rate,
            "cer_untrained": untrained.value,
            "wer_shuffled_text": controls["wer"].value,
        },
        estimates={**estimates, **quality_of_speech},
        verdict=judge_talker(estimates, untrained),
        predictions=[
            {
                "id": row.id,
                "task": "say",
                "reference": sentence.text,
                "prediction": sentence.transcripts["free_running"],
                **_others(sentence),
            }
            for row, sentence in zip(recordings, sentences, strict=True)
        ],
        images={f"{_file_name(row)}.png": _image(sentence, voice) for row, sentence in kept}
        | {name: image for row, sentence in kept[:ALIGNED] for name, image in _alignments(_file_name(row), sentence, voice)},
        audio={f"{_file_name(row)}_{rung}.wav": wav_bytes(sentence.audio[rung], rate) for row, sentence in kept for rung in RUNGS},
    )


def _rates(texts: Sequence[str], transcripts: Sequence[str]) -> list[tuple[str, Estimate]]:
    return [("cer", by_pair(character_errors, texts, transcripts)), ("wer", by_pair(word_errors, texts, transcripts))]


def _quality(sentences: Sequence[SpokenSentence], rate: int) -> dict[str, Estimate]:
    """How much the resynthesis sounds like the recordings, by what of STOI and PESQ is installed."""
    pairs = [[resample(sentence.audio[rung], rate, RATE) for rung in ("original", "resynthesis")] for sentence in sentences]
    return {f"{name}_resynthesis": value for name, value in quality_estimates([quality(*pair) for pair in pairs]).items()}


def _others(sentence: SpokenSentence) -> dict[str, str]:
    return {f"heard_{rung}": sentence.transcripts[rung] for rung in RUNGS if rung != "free_running"}


def _image(sentence: SpokenSentence, voice: Voice) -> bytes:
    mel = voice.codec.config.mel
    return spectrogram_image(
        {f"{rung}: {sentence.transcripts[rung]}": log_mel(audio, mel).numpy() for rung, audio in sentence.audio.items()}
    )


def _alignments(name: str, sentence: SpokenSentence, voice: Voice) -> Iterator[tuple[str, bytes]]:
    """Images of when each letter is said, in the recording and by the Talker."""
    for rung, times in sentence.times.items():
        title = f"{sentence.text} ({rung.replace('_', ' ')})"
        yield f"{name}_{rung}{SUFFIX}", speech_image(sentence.audio[rung], voice.codec.config.mel, times, title)


def _file_name(recording: Recording) -> str:
    return "".join(character if character.isalnum() else "-" for character in recording.id)
