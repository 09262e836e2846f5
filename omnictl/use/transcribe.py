"""From a recording to its words and when they were said, with the model of an `asr` run.

A long recording is cut where it is quietest into windows as long as what the model is used to, each heard by itself. A window
of silence or steady noise is not heard at all: the features take the level out of a recording, and a model that knows nothing but
speech may find some in it. Left out on purpose: speakers, punctuation, windows that overlap.
"""

import logging
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from omnictl.data.audio.decoder import read_audio
from omnictl.data.speech.corpus import Samples
from omnictl.data.speech.transcripts.targets import Targets
from omnictl.errors import DataError
from omnictl.generate.char_ngram import CharNgram
from omnictl.generate.ctc_decoder import Decoding
from omnictl.generate.ctc_search import align_words
from omnictl.generate.rescore import ThinkerRater
from omnictl.models.audio_encoder import Encoded
from omnictl.nn.audio.mel import MelConfig, log_mel
from omnictl.nn.conv import SUBSAMPLING
from omnictl.regular_files import MIB, read_regular
from omnictl.runs.run import Run
from omnictl.stages.asr import Asr, AsrConfig
from omnictl.stages.pretrain import open_thinker as load_thinker
from omnictl.stages.protocol import open_trained
from omnictl.use.subtitles import Word

LARGEST_TEXT = 256 * MIB
"""Of a text that a language model is made of."""

SHORTEST_SECONDS, LONGEST_SECONDS = 10.0, 20.0
"""Of a window; the last one may be shorter."""
PAUSE_SECONDS = 0.3
"""Windows part in the middle of the quietest stretch of this length: longer than the stop in a /t/, shorter than a breath."""
POWER_SECONDS = 0.01

QUIETEST_LEVEL = 1e-4
"""Samples that never exceed it, three steps of 16 bits, hold no speech."""
STEADY_DB = 6.0
"""By how much the level moves in some band. White, pink and brown noise: at most 4.8 dB; TinyWorld's speech: at least 24, with as
much noise added as there is speech 10, with three times the power 6.6."""
STEADY_SECONDS = 0.5
"""Shorter recordings are heard however steady: "ah" moves by 3 dB in some voices."""
SYLLABLE_SECONDS = 0.07
BANDS = 8

SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger(__name__)


class Recogniser(Protocol):
    """What hears: `omnictl.stages.asr.Asr` with its weights."""

    config: AsrConfig
    targets: Targets

    def hear(self, audio: Samples) -> Encoded:
        """CTC log-probabilities `(1, S, V)` of one recording, `(n,)` samples at the features' rate."""
        ...


class Transcript(NamedTuple):
    """What was said in a recording."""

    words: list[Word]
    seconds: float  # length of the recording
    real_time_factor: float  # seconds that a second of audio took, from samples to words

    @property
    def text(self) -> str:
        """The words, one space apart."""
        return " ".join(word.text for word in self.words)

    def as_json(self) -> dict[str, object]:
        """The object that `--json` prints, times in seconds to the millisecond."""
        words = [{"text": text, "start": round(start, 3), "stop": round(stop, 3)} for text, start, stop in self.words]
        return {
            "text": self.text,
            "seconds": round(self.seconds, 3),
            "words": words,
            "real_time_factor": self.real_time_factor,
        }


def open_recogniser(run: Run, device: torch.device, cache: Path) -> Asr:
    """A run's best model in fp32.

    Raises:
        CheckpointError: the run has no whole model yet.
    """
    return open_trained(Asr, run, device=device, cache=cache)


def fit_language_model(path: Path, targets: Targets) -> CharNgram:
    """A language model for the beam search, from a text file with a sentence a line; it rates what the model spells.

    Raises:
        DataError: the file cannot be read, or no line of it can be spelled.
    """
    try:
        text = read_regular(path, LARGEST_TEXT).decode("utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
    except OSError as error:
        message, fix = f"cannot read {path}: {error.strerror}", "give the path of a text file, one sentence a line"
        raise DataError(message, where="--lm", fix=fix) from error
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        fix = "give a text file, or convert this one to UTF-8 (`iconv -f latin1 -t utf-8`)"
        raise DataError(message, where="--lm", fix=fix) from error
    texts = [targets.normalise(line) for line in lines if targets.find_flaw(line) is None]
    if not texts:
        message = f"{path} has {len(lines)} lines of text, none of which can be spelled with a to z"
        raise DataError(message, where="--lm", fix="give a text file in the language of the recordings, one sentence a line")
    if len(texts) < len(lines):
        left_out = len(lines) - len(texts)
        logger.info("%s: %d of %d lines cannot be spelled with a to z and are left out", path, left_out, len(lines))
    return CharNgram.fit(map(targets.encode, texts), vocab_size=targets.num_symbols)


def open_thinker(run: Run, device: torch.device) -> ThinkerRater:
    """The best model of a `pretrain` run in fp32, to rate sentences; the text that it learned from may be gone.

    Raises:
        CheckpointError: the run has no whole model yet.
    """
    model, tokenizer = load_thinker(run.model)
    return ThinkerRater(model.to(device).eval(), tokenizer)


def transcribe_file(path: Path, recogniser: Recogniser, decoding: Decoding) -> Transcript:
    """Hear a recording, whatever its rate, channels and length (an hour at most).

    Raises:
        DataError: it cannot be read.
    """
    mel = recogniser.config.model.mel
    audio = read_audio(path, rate=mel.sample_rate)
    seconds = len(audio) / mel.sample_rate
    began = last_line = time.perf_counter()
    words: list[Word] = []
    for window in transcribe_windows(audio, recogniser, decoding):
        if not window.speech:
            logger.info("%s: silence or steady noise from %.1f to %.1f s", path, window.start, window.stop)
        words += window.words
        if window.stop < seconds and time.perf_counter() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.perf_counter()
            logger.info("%s: %.0f of %.0f s", path, window.stop, seconds)
    return Transcript(words, seconds, (time.perf_counter() - began) / seconds)


class HeardWindow(NamedTuple):
    """What was said in a stretch of a recording; times in seconds from its beginning."""

    words: list[Word]
    start: float
    stop: float
    speech: bool  # False: nothing but silence or steady noise


def transcribe_windows(audio: Samples, recogniser: Recogniser, decoding: Decoding) -> Iterator[HeardWindow]:
    """Hear audio `(n,)` at the features' rate, one window after the other."""
    mel = recogniser.config.model.mel
    for first, window in windows(audio, mel.sample_rate):
        start, stop = (at / mel.sample_rate for at in (first, first + len(window)))
        speech = not is_silent(window, mel)
        heard = words_in(window, recogniser, decoding) if speech else []
        yield HeardWindow([Word(text, start + begin, start + end) for text, begin, end in heard], start, stop, speech)


def windows(audio: Samples, rate: int) -> Iterator[tuple[int, Samples]]:
    """A recording in pieces, each after the number of its first sample; together they are the whole.

    Args:
        audio: `(n,)` mono.
        rate: samples a second.
    """
    frame = max(1, round(POWER_SECONDS * rate))
    whole = audio[: len(audio) // frame * frame].reshape(-1, frame)
    power = np.einsum("tn,tn->t", whole, whole)  # (T,)
    shortest, longest, pause = (int(length * rate / frame) for length in (SHORTEST_SECONDS, LONGEST_SECONDS, PAUSE_SECONDS))
    cuts = [0]
    while len(audio) - cuts[-1] > LONGEST_SECONDS * rate:
        start = cuts[-1] // frame
        levels = np.convolve(power[start + shortest : start + longest], np.ones(pause), "valid")
        cuts.append((start + shortest + int(levels.argmin()) + pause // 2) * frame)
    for first, after in pairwise([*cuts, len(audio)]):
        yield first, audio[first:after]


def is_silent(audio: Samples, mel: MelConfig) -> bool:
    """Whether nothing is said: silence, or a noise whose level does not move from syllable to syllable in any band.

    The lowest eighth of the mel scale does not count (a brown noise drifts there), nor do the ends, where cutting makes a click.
    """
    if np.abs(audio).max() < QUIETEST_LEVEL:
        return True
    if len(audio) < STEADY_SECONDS * mel.sample_rate:
        return False
    ends = -(-mel.fft // (2 * mel.hop))  # frames that see beyond the audio
    width, syllable = max(1, mel.bins // BANDS), max(1, round(SYLLABLE_SECONDS * mel.frames_hz))
    power = log_mel(audio, mel)[ends:-ends, mel.bins // BANDS :].exp()  # (T, F')
    bands = power.unfold(1, width, width).mean(-1).unfold(0, syllable, 1).mean(-1)  # (T', BANDS - 1)
    levels = 10 * bands.log10()
    movement = levels.amax(0) - levels.quantile(0.1, dim=0)
    return bool(movement.max() < STEADY_DB)


def words_in(audio: Samples, recogniser: Recogniser, decoding: Decoding) -> list[Word]:
    """The words of one window, in seconds from its beginning."""
    model = recogniser.config.model
    assert model.emissions != "auto"
    frames, lengths = recogniser.hear(audio)
    log_probs = frames[0, : int(lengths[0])].cpu()  # (S, V)
    ids = decoding.ids(log_probs, recogniser.targets)
    step = SUBSAMPLING / model.mel.frames_hz / model.emissions
    end = len(audio) / model.mel.sample_rate  # the last frame reaches beyond it
    words = align_words(log_probs, ids, recogniser.targets.decode)
    return [Word(text, min(start * step, end), min(stop * step, end)) for text, start, stop in words]
