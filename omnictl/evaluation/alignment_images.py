"""Images of what is said when: a spectrogram, with the piece of text that belongs to each stretch of time below it."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.data.speech.transcripts.spoken_text import sentences
from omnictl.generate.ctc_search import align_words
from omnictl.generate.tts import Voice, arriving_sentences
from omnictl.metrics.figures import TimedText, alignment_image
from omnictl.models.aligner import STRIDE
from omnictl.models.talker import round_durations
from omnictl.nn.audio.mel import MelConfig, log_mel
from omnictl.nn.conv import SUBSAMPLING

SUFFIX = ".alignment.png"
"""Of such an image; `NAME.wav` beside it is what it shows."""

ALIGNED = 3
"""Utterances of an evaluation that are shown so."""


def symbol_times(text: str, durations: Sequence[int] | NDArray[np.int64]) -> list[TimedText]:
    """Letters and marks and when they are said, in mel frames.

    Args:
        text: of T - 2 symbols, which two edges of silence surround.
        durations: `(T,)` sub-frames, of two mel frames each.
    """
    ends = (np.cumsum(durations) * STRIDE).tolist()
    return [TimedText(symbol, start, stop) for symbol, start, stop in zip(text, ends[:-2], ends[1:-1], strict=True)]


@torch.inference_mode()
def planned_times(voice: Voice, text: str, speaker: int) -> list[TimedText]:
    """When a Talker means to say each symbol of a text, in mel frames: what `generate.tts.say` makes of it, without saying it."""
    talker, device = voice.talker, voice.talker.cos.device
    times: list[TimedText] = []
    passed = 0
    for short in _parts(voice, text):
        symbols = torch.tensor([voice.pronunciation.encode(short)], device=device)
        states = voice.conditioner(short)[None].to(device) if voice.conditioner else None
        read = talker.read(symbols, torch.tensor([symbols.shape[1]], device=device), torch.tensor([speaker], device=device), states)
        durations = round_durations(talker.log_durations(read)[0]).cpu().numpy()
        times += [TimedText(one.text, passed + one.start, passed + one.stop) for one in symbol_times(short, durations)]
        frames = -(-int(durations.sum()) // talker.interface.subframes)
        passed += frames * talker.interface.subframes * STRIDE
    return times


def _parts(voice: Voice, text: str) -> Iterator[str]:
    """What is said in one breath."""
    for sentence in arriving_sentences([text]):
        yield from sentences(voice.pronunciation.normalise(sentence), voice.longest)


def speech_image(audio: NDArray[np.float32], mel: MelConfig, times: Sequence[TimedText], title: str) -> bytes:
    """An image of a piece of speech as a PNG.

    Args:
        audio: `(n,)` samples at the rate of `mel`.
        mel: how its spectrogram is made.
        times: of its symbols, in frames of that.
        title: above it.
    """
    return alignment_image(title, log_mel(audio, mel).numpy(), times)


def ctc_image(
    features: NDArray[np.float32],
    log_probs: Tensor,
    ids: Sequence[int],
    decode: Callable[[Sequence[int]], str],
    *,
    emissions: int,
    title: str,
) -> bytes:
    """An image of a transcription as a PNG: each word where a CTC model hears it.

    Args:
        features: `(T, F)` log-mels that it heard.
        log_probs: `(S, V)` of these.
        ids: its transcription.
        decode: makes characters of ids.
        emissions: of `log_probs` for each frame of the encoder.
        title: above it.
    """
    step = SUBSAMPLING / emissions
    words = [TimedText(word, start * step, stop * step) for word, start, stop in align_words(log_probs, ids, decode)]
    return alignment_image(title, features, words)
