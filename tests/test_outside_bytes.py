"""Whatever bytes a file holds, its reader returns or refuses it by name, within two seconds and without filling the memory."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from omnictl.config.files import read_config
from omnictl.data.audio.decoder import read_audio, wav_bytes
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.manifest import IMAGES
from omnictl.data.speech.manifest import SPEECH
from omnictl.data.text.files import read_rows
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import OmniError
from omnictl.runs.log_file import read_log
from omnictl.runs.model_folder import read_description
from omnictl.runs.run import Run
from omnictl.runs.weights_file import read_weights
from omnictl.trainer.plan.model_size_limit import limit_to_weights

pytestmark = pytest.mark.faults

TIMES = int(os.environ.get("OMNICTL_FAULTS", "50"))
"""Mutants of each format; 10,000 for the figures in docs/reliability.md."""

MOST_MIB = 512


def read_limit(path: Path) -> None:
    with limit_to_weights(path.parent):
        pass


def consume(read: Callable[[Path], Iterator[object]]) -> Callable[[Path], object]:
    return lambda path: list(read(path))


DIALOGUE = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'

ODD = (b"\0" * 8, b"\xff" * 8, b"[" * 2000, b"9" * 500, b"-1", b"1e999", b"NaN", b'"\\ud800"')

READERS: dict[str, tuple[str, Callable[[Path], object], bytes]] = {
    "json config": ("a.json", read_config, b'{"train": {"steps": 10, "betas": [0.9, 1e-3]}, "data": {"source": "x"}}'),
    "toml config": ("a.toml", read_config, b'[train]\nsteps = 10\nbetas = [0.9, 1e-3]\n[[a.b]]\nc = """x"""\n'),
    "yaml config": ("a.yaml", read_config, b"train:\n  steps: 10\n  betas: [0.9, 1e-3]\ndata: {source: x}\n"),
    "speech csv": ("a.csv", SPEECH.read, b'audio,text,speaker\na.wav,"hello, you",me\nb.wav,there,you\n'),
    "image jsonl": ("a.jsonl", IMAGES.read, b'{"image": "a.png", "label": "cat"}\n{"image": "b.png", "label": "dog"}\n'),
    "dialogues": (
        "a.jsonl",
        read_dialogues,
        b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
    ),
    "text jsonl": ("a.jsonl", consume(read_rows), b'{"text": "one"}\n{"text": "two", "split": "val"}\n'),
    "text": ("a.txt", consume(read_rows), "one\n\n\ntwo – ½\n<|endoftext|>\nthree\n".encode()),
    "wav": ("a.wav", lambda path: read_audio(path, rate=16_000), wav_bytes(torch.zeros(40).numpy(), 16_000)),
    "tokenizer": (
        "tokenizer.json",
        Tokenizer.load,
        Tokenizer.train_char(["abc"])._with_markup.to_str().encode(),  # in the library's own format
    ),
    "weights": ("model.safetensors", read_weights, save({"a": torch.ones(2, 3), "b": torch.arange(4)})),
    "weights header": ("model.safetensors", read_limit, save({"a": torch.ones(2, 3), "b": torch.arange(4)})),
    "model config": (
        "config.json",
        lambda path: read_description(path.parent, "asr"),
        b'{"format": 1, "stage": "asr", "config": {}}',
    ),
    "record": ("run.json", lambda path: Run(path.parent).record(), b'{"stage": "asr", "status": "finished"}'),
    "log": ("metrics.jsonl", read_log, b'{"step": 1, "split": "train", "loss": 1.5}\n{"step": 2}\n'),
}


@st.composite
def mutants(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some of its bytes changed, cut, repeated or put in; sometimes any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 1000])))
        put_in = st.one_of(st.binary(max_size=8), st.sampled_from(ODD))
        data[start:stop] = draw(put_in)
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_returns_or_refuses_by_name(name: str, tmp_path: Path) -> None:
    file_name, read, whole = READERS[name]
    path = tmp_path / file_name

    @settings(max_examples=TIMES, deadline=2_000, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(mutants(whole))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        with suppress(OmniError):
            read(path)

    path.write_bytes(whole)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MIB * 1024
