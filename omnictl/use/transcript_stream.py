"""Words while somebody speaks: a recogniser that has learned to hear in chunks, and what it reads along the likeliest path.

What was understood is not taken back; the beam search of `use.transcribe`, which hears all of a recording, may read it otherwise.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from omnictl.data.audio.decoder import read_audio
from omnictl.data.speech.corpus import Samples
from omnictl.errors import RunError
from omnictl.generate.ctc_search import words_of_path
from omnictl.models.audio_encoder import Encoded
from omnictl.models.audio_stream import AudioEncoderStream
from omnictl.nn.audio.mel import MelStream
from omnictl.nn.conv import SUBSAMPLING
from omnictl.stages.asr import Asr
from omnictl.use.subtitles import Word
from omnictl.use.transcribe import Transcript

PIECE_SECONDS = 0.1
"""Of a file that is heard as if it were said now."""


class TranscriptStream:
    """What is said in audio that comes in pieces.

    Args:
        recogniser: has learned to hear in chunks.
    """

    def __init__(self, recogniser: Asr) -> None:
        model = recogniser.config.model
        assert model.emissions != "auto"
        self._recogniser = recogniser
        self._mels = MelStream(model.mel, SUBSAMPLING * model.streaming.chunk)
        self._frames = AudioEncoderStream(recogniser.model)
        self._step = SUBSAMPLING / model.mel.frames_hz / model.emissions  # seconds of a symbol
        self._path: list[int] = []  # from the first symbol of the word that is being said
        self._begun = 0  # symbols before it

    def push(self, samples: Samples) -> list[Word]:
        """Take `(n,)` more samples at the features' rate; the words that are over now, in seconds since the first sample."""
        for chunk in self._mels.push(samples):
            self._hear(chunk)
        return self._take(1)

    def finish(self) -> list[Word]:
        """The words that are left."""
        for chunk in self._mels.finish():
            self._hear(chunk)
        return self._take(0)

    @torch.inference_mode()
    def _hear(self, chunk: torch.Tensor) -> None:
        frames = self._frames.push(chunk)
        scores = self._recogniser.model.logits(Encoded(frames[None], torch.tensor([len(frames)]))).frames[0]
        self._path += scores.argmax(-1).tolist()

    def _take(self, kept: int) -> list[Word]:
        """The words of the path but for the last `kept` ones, of which more may come."""
        words = words_of_path(self._path, self._recogniser.targets.decode)
        over, begun = words[: len(words) - kept], self._begun
        if over and len(words) > len(over):
            start = words[len(over)].start
            self._path, self._begun = self._path[start:], begun + start
        elif over:
            self._path, self._begun = [], begun + len(self._path)
        return [Word(text, (begun + start) * self._step, (begun + stop) * self._step) for text, start, stop in over]


def require_chunks(recogniser: Asr, run: str) -> None:
    """Make sure that a recogniser can hear while somebody speaks.

    Raises:
        RunError: it has learned to hear whole utterances only.
    """
    if not recogniser.streams:
        taught = f"`omnictl asr --init {run} --set model.streaming.share=0.5`"
        fix = f"teach it to hear in chunks: {taught}, with the preset and settings that it was trained with"
        raise RunError("this recogniser hears whole utterances only", where=run, fix=fix)


def stream_file(path: Path, recogniser: Asr, tell: Callable[[Word], None]) -> Transcript:
    """Hear a recording as if it were said now, though as fast as can be.

    Args:
        path: WAV, FLAC, OGG or MP3.
        recogniser: has learned to hear in chunks.
        tell: is told of every word as soon as it is over.

    Raises:
        DataError: it cannot be read.
    """
    audio = read_audio(path, rate=recogniser.rate)
    seconds = len(audio) / recogniser.rate
    stream, words = TranscriptStream(recogniser), list[Word]()
    began, piece = time.perf_counter(), max(1, round(PIECE_SECONDS * recogniser.rate))
    for start in range(0, len(audio) + piece, piece):
        fresh = stream.push(audio[start : start + piece]) if start < len(audio) else stream.finish()
        for word in fresh:
            words.append(Word(word.text, min(word.start, seconds), min(word.stop, seconds)))
            tell(words[-1])
    return Transcript(words, seconds, (time.perf_counter() - began) / seconds)
