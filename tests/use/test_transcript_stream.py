"""Words while they are being said."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import nn

from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.errors import RunError
from omnictl.generate.ctc_search import words_of_path
from omnictl.models.audio_encoder import AudioEncoder
from omnictl.nn.audio.mel import level_by_chunks, log_mel
from omnictl.stages.asr import PRESETS, Asr
from omnictl.use.transcript_stream import TranscriptStream, require_chunks, stream_file

if TYPE_CHECKING:
    from omnictl.use.subtitles import Word

RATE = 16_000


class Ear:
    """As `Asr`, with weights drawn at random that spell something."""

    targets = CharacterTargets()
    rate = RATE

    def __init__(self, share: float = 0.5) -> None:
        model = PRESETS["debug"].model
        streaming = model.streaming.model_copy(update={"chunk": 4, "left": 1, "share": share})
        self.config = PRESETS["debug"].model_copy(
            update={"model": model.model_copy(update={"streaming": streaming, "emissions": 2})}
        )
        torch.manual_seed(3)
        self.model = AudioEncoder(self.config.model, self.targets.num_symbols).eval()
        nn.init.normal_(self.model.head.weight)
        for symbol in (0, *self.targets.encode(" ")):  # blanks and spaces are common
            self.model.head.bias.data[symbol :: self.targets.num_symbols] += 7
        self.model.mean.fill_(-8)
        self.model.std.fill_(4)

    streams = Asr.streams


def hum(seconds: float) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))  # else what rounding leaves beside a tone would be heard
    return (0.2 * np.sin(2 * np.pi * time * (200 + 900 * time)) * (1.1 + np.sin(20 * time)) + noise).astype(np.float32)


@torch.no_grad()
def expected(ear: Ear, audio: NDArray[np.float32]) -> list[tuple[str, float, float]]:
    mels = log_mel(audio, ear.config.model.mel)[None]
    lengths = torch.tensor([mels.shape[1]])
    encoded = ear.model(level_by_chunks(mels, lengths, 16), lengths, in_chunks=True)
    path = ear.model.logits(encoded).frames[0].argmax(-1).tolist()
    return [(text, start / 50, stop / 50) for text, start, stop in words_of_path(path, ear.targets.decode)]


def test_words_are_those_of_the_whole_path_however_the_audio_is_cut() -> None:
    ear = Ear()
    audio = hum(4.05)
    wanted = expected(ear, audio)
    assert len(wanted) > 3
    for size in (len(audio), 1_000, 16_001):
        stream, early = TranscriptStream(ear), []  # type: ignore[arg-type]
        for start in range(0, len(audio), size):
            early += stream.push(audio[start : start + size])
        words = [*early, *stream.finish()]
        assert [word.text for word in words] == [text for text, _, _ in wanted]
        assert [word.start for word in words] == pytest.approx([start for _, start, _ in wanted])
        assert [word.stop for word in words] == pytest.approx([stop for _, _, stop in wanted])
        assert early


def test_a_file_is_told_word_by_word(tmp_path: Path) -> None:
    ear, audio = Ear(), hum(1.5)
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    told: list[Word] = []
    transcript = stream_file(tmp_path / "a.wav", ear, told.append)  # type: ignore[arg-type]
    assert transcript.words == told
    assert [word.text for word in told] == [text for text, _, _ in expected(ear, audio)]
    assert all(word.stop <= transcript.seconds for word in told)


def test_who_hears_whole_utterances_only_is_refused() -> None:
    require_chunks(Ear(), "runs/asr/1")  # type: ignore[arg-type]
    with pytest.raises(RunError, match="hears whole utterances only") as caught:
        require_chunks(Ear(share=0), "runs/asr/1")  # type: ignore[arg-type]
    assert "omnictl asr --init runs/asr/1 --set model.streaming.share=0.5" in caught.value.fix
