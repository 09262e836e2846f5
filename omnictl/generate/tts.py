"""Saying a text: sentence by sentence, frame by frame, so that the first audio comes long before the last.

text pieces → sentences → symbols, spread over time → codes → mel frames → samples. Everything after the sentence is a stream, and a
whole text goes the same way as one that arrives in pieces: what is said does not depend on how it arrived.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from omnictl.config import Config
from omnictl.data.speech.transcripts.spoken_text import sentences
from omnictl.data.speech.transcripts.targets import Pronunciation, ReadAloud
from omnictl.generate.griffin_lim import Vocoder
from omnictl.generate.sampling import divide_by_temperature
from omnictl.generate.thinker_conditioning import Conditioner
from omnictl.models.codec import Codec
from omnictl.models.talker import Talker, round_durations
from omnictl.nn.audio.length_regulator import spread_text
from omnictl.nn.step_threads import step_threads

LONGEST_BUFFER = 1_000
"""Characters without the end of a sentence that are held before they are said all the same."""

_ENDS = ".?!"

Samples = NDArray[np.float32]


class CodeSampling(Config):
    """How the next codes are chosen. Temperature 0: the likeliest."""

    temperature: float = Field(0.6, ge=0, le=10, description="0: always the likeliest code")
    top_k: int = Field(0, ge=0, le=1_000_000_000, description="draw from the k likeliest codes; 0: from all")


@dataclass(frozen=True)
class Voice:
    """What turns text into audio: a Talker, the codec it writes in, and a vocoder; in eval mode."""

    talker: Talker
    codec: Codec
    vocoder: Vocoder
    longest: int
    """Symbols said in one go; longer sentences are cut."""
    sampling: CodeSampling = field(default_factory=CodeSampling)
    speakers: tuple[str, ...] = ()
    """Names of those whose voice it has, by number."""
    conditioner: Conditioner | None = None
    """The Thinker that reads along, if one does."""
    pronunciation: Pronunciation = field(default_factory=ReadAloud)
    """What of a text is read, symbol by symbol."""


class SpeechStream:
    """A text that is said while it arrives.

    Args:
        voice: what says it.
        generator: source of randomness, on the CPU.
        speaker: whose voice, by number.
        speed: 2 is twice as fast.
    """

    def __init__(self, voice: Voice, generator: torch.Generator, *, speaker: int = 0, speed: float = 1.0) -> None:
        self._voice, self._generator, self._speaker, self._speed = voice, generator, speaker, speed
        self._splitter = SentenceSplitter()
        self._sentences: deque[str] = deque()  # that are whole and not said yet
        self._ended = False
        self._num_frames = 0  # mel frames so far
        self.said: list[tuple[str, float]] = []
        """The sentences that were begun, and the seconds of speech before each."""
        self._samples = self._say()

    def push(self, text: str) -> None:
        """Take more of the text."""
        self._sentences.extend(self._splitter.push(text))

    def finish(self) -> None:
        """No more of the text comes."""
        self._sentences.append(self._splitter.finish())
        self._ended = True

    def step(self) -> Samples | None:
        """The next samples `(n,)` at the vocoder's rate, n > 0; None: they need more of the text, or all of it was said."""
        return next(self._samples, None)

    def _say(self) -> Iterator[Samples | None]:
        audio = self._voice.vocoder.stream()
        while self._sentences or not self._ended:
            if not self._sentences:
                yield None
                continue
            sentence = self._sentences.popleft()
            self.said.append((sentence, self._num_frames / self._voice.codec.config.mel.frames_hz))
            for mel in self._mel_frames(sentence):
                self._num_frames += len(mel)
                samples = audio.push(mel.cpu())
                if len(samples):
                    yield samples
        rest = audio.finish()
        if len(rest):
            yield rest

    def _mel_frames(self, sentence: str) -> Iterator[Tensor]:
        voice = self._voice
        for short in sentences(voice.pronunciation.normalise(sentence), voice.longest):
            states = voice.conditioner(short) if voice.conditioner else None
            codes = code_frames(
                voice.talker,
                voice.pronunciation.encode(short),
                voice.sampling,
                self._generator,
                thinker_states=states,
                speaker=self._speaker,
                speed=self._speed,
            )
            yield from voice.codec.stream(codes)


def say(
    voice: Voice, pieces: Iterable[str], generator: torch.Generator, *, speaker: int = 0, speed: float = 1.0
) -> Iterator[Samples]:
    """Say a text as it arrives.

    Args:
        voice: what says it.
        pieces: the text, cut anywhere.
        generator: source of randomness, on the CPU.
        speaker: whose voice, by number.
        speed: 2 is twice as fast.

    Yields:
        `(n,)` samples at the vocoder's rate.
    """
    speech = SpeechStream(voice, generator, speaker=speaker, speed=speed)
    for piece in pieces:
        speech.push(piece)
        while (samples := speech.step()) is not None:
            yield samples
    speech.finish()
    while (samples := speech.step()) is not None:
        yield samples


class TimedSpeech(NamedTuple):
    """Speech, and how long it was waited for."""

    audio: Samples  # (n,)
    first_seconds: float  # until the first audio; until the end if there was none
    seconds: float  # until the last


def time_speech(stream: Iterable[Samples]) -> TimedSpeech:
    """Say to the end, with a watch in the hand."""
    began, first = time.perf_counter(), None
    parts: list[Samples] = [np.zeros(0, dtype=np.float32)]
    for samples in stream:
        first = first or time.perf_counter() - began
        parts.append(samples)
    taken = time.perf_counter() - began
    return TimedSpeech(np.concatenate(parts), first or taken, taken)


class SentenceSplitter:
    """Finds sentences in a text as it arrives: up to a mark that white space follows, or a line's end."""

    def __init__(self) -> None:
        self._held: list[str] = []

    def push(self, text: str) -> Iterator[str]:
        """Take more of the text; gives the sentences that are whole now."""
        held = self._held
        for character in text:
            ended = character == "\n" or (character.isspace() and held and held[-1] in _ENDS)
            if ended or (character.isspace() and len(held) >= LONGEST_BUFFER) or len(held) >= 2 * LONGEST_BUFFER:
                yield "".join(held)
                held.clear()
            held.append(character)

    def finish(self) -> str:
        """What is left at the end of the text."""
        return "".join(self._held)


def arriving_sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Sentences as soon as they are whole, however the text was cut."""
    splitter = SentenceSplitter()
    for piece in pieces:
        yield from splitter.push(piece)
    yield splitter.finish()


@torch.inference_mode()
def code_frames(
    talker: Talker,
    symbols: list[int],
    sampling: CodeSampling,
    generator: torch.Generator,
    *,
    thinker_states: Tensor | None = None,
    speaker: int = 0,
    speed: float = 1.0,
) -> Iterator[Tensor]:
    """The codes `(K,)` of one frame after the other that say some symbols, which a Thinker may have read `(T, D)`."""
    device = talker.cos.device
    shape = talker.interface
    speakers = torch.tensor([speaker], device=device)
    conditioning = None if thinker_states is None else thinker_states[None].to(device)
    length = torch.tensor([len(symbols)], device=device)
    states = talker.read(torch.tensor([symbols], device=device), length, speakers, conditioning)
    times = round_durations(talker.log_durations(states)[0] - float(np.log(speed)))
    spread = spread_text([times.cpu().numpy()], shape.subframes)
    text = talker.frames(states, type(spread)(*(part.to(device) for part in spread)))  # (1, S, D)
    num_frames = text.shape[1]
    text = F.pad(text, (0, 0, 0, shape.books - 1))
    cache, threads = talker.new_cache(), step_threads(talker)
    written = torch.full((shape.books, num_frames + shape.books - 1), shape.codes)  # (K, L), delayed
    last = torch.full((shape.books,), shape.codes)
    book = torch.arange(shape.books)
    for step in range(written.shape[1]):
        with threads():
            scores = talker.scores(text[:, step : step + 1], last.to(device)[None, :, None], cache)[0, 0]  # (K, V)
        inside = (book <= step) & (step - book < num_frames)
        last = torch.where(inside, choose_codes(scores.cpu(), sampling, generator), shape.codes)
        written[:, step] = last
        frame = step - shape.books + 1
        if frame >= 0:
            yield written[book, frame + book].to(device)


def choose_codes(scores: Tensor, sampling: CodeSampling, generator: torch.Generator) -> Tensor:
    """Draw one code a row of `(K, V)` scores."""
    if sampling.temperature == 0:
        return scores.argmax(-1)
    scores = divide_by_temperature(scores.float(), sampling.temperature)
    if sampling.top_k:
        least = scores.topk(min(sampling.top_k, scores.shape[-1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    return torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
