"""Recordings in codes: made when they are needed, which nothing that is trained may notice."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from stage_factory import make_stage

from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet, open_set
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.features.speech_codes import code_speech
from omnictl.nn.audio.mel import MelConfig


def test_coding_leaves_the_random_numbers_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout would go on otherwise where a split has not been coded before."""
    monkeypatch.setenv("OMNICTL_CACHE", str(tmp_path))
    stage = make_stage("talker")
    stage.batches()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = stage.validate()
    assert torch.equal(torch.random.get_rng_state(), before)
    again = make_stage("talker")
    assert again.validate().metrics == first.metrics  # from the cache
    for one, other in zip(stage.code_split("val").codes, again.code_split("val").codes, strict=True):
        assert np.array_equal(one, other)


class LoudnessCodec:
    """Of every frame, one code: how loud its upper bins are."""

    config = SimpleNamespace(stride=1, quantiser=SimpleNamespace(books=1))
    mean = torch.zeros(1)

    def encode(self, mel: torch.Tensor) -> torch.Tensor:
        return mel[..., 10:].mean(-1).round().long()[:, None]  # (1, 1, T)


def test_recordings_that_have_changed_are_coded_anew(tmp_path: Path) -> None:
    """Noise that is taken out changes neither the length of a recording nor what is said."""
    for name in ("codec", "aligner"):
        (tmp_path / name).mkdir()
        for file in ("config.json", "model.safetensors"):
            (tmp_path / name / file).write_bytes(b"")
    (tmp_path / "metadata.csv").write_text("audio,text,split\na.wav,one,train\n")
    codec: Any = LoudnessCodec()

    def align(utterances: SpeechSet) -> list[Any]:
        return [np.ones(len(target)) for target in utterances.targets]

    def code(change_ns: int, noise: float) -> list[int]:
        wave = np.sin(np.arange(8000) / 10) + noise * np.random.default_rng(0).standard_normal(8000)
        soundfile.write(tmp_path / "a.wav", 0.1 * wave, 8000)
        os.utime(tmp_path / "a.wav", ns=(change_ns, change_ns))
        corpus = open_speech(SpeechDataConfig(source=str(tmp_path), val_fraction=0))
        utterances = open_set(corpus, "train", MelConfig(bins=20), CharacterTargets(), tmp_path)
        parts = {name: tmp_path / name for name in ("codec", "aligner")}
        coded = code_speech(utterances, "train", [0], codec, parts, lambda *_: SimpleNamespace(durations=align), tmp_path)
        return list(coded.codes[0][0])

    noisy, clean = code(1, 0.1), code(2, 0.0)
    assert len(noisy) == len(clean)
    assert np.mean(clean) < np.mean(noisy) - 1
