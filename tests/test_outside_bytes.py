"""Whatever bytes a file holds, its reader returns or refuses it by name, within two seconds and without filling the memory."""

import gzip
import io
import json
import os
import resource
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save

from omnictl.config import to_dict
from omnictl.config.files import read_config
from omnictl.data.audio.decoder import read_audio, wav_bytes
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.files.decoder import read_image
from omnictl.data.images.layouts import find_images
from omnictl.data.images.manifest import IMAGES
from omnictl.data.packed.arrow_tables import open_table
from omnictl.data.packed.webdataset import read_tar
from omnictl.data.speech.corpora.kaldi import read_kaldi
from omnictl.data.speech.corpora.subtitles import read_subtitles
from omnictl.data.speech.manifest import SPEECH
from omnictl.data.text.files import read_rows
from omnictl.data.text.foreign_tokenizer import read_foreign_tokenizer
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import OmniError
from omnictl.pipeline.project.read_project import read_project
from omnictl.runs.log_file import read_log
from omnictl.runs.model_folder import read_config as read_model_config
from omnictl.runs.model_folder import read_description
from omnictl.runs.run import Run
from omnictl.runs.weights_file import read_weights
from omnictl.stages.pretrain import PRESETS, PretrainConfig
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

ODD = (b"\0" * 8, b"\xff" * 8, b"[" * 2000, b"9" * 500, b"9" * 5000, b"-1", b"1e999", b"NaN", b'"\\ud800"', b"\xff\xff\xff\x7f")


def read_rows_of_table(path: Path) -> None:
    with open_table(path) as table:
        for _ in table.rows(64, table.columns):
            pass


def read_coco_of(path: Path) -> None:
    find_images(path.parent)


def gives_samples(kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(400) / 5), 16_000, format=kind, subtype=subtype)
    return file.getvalue()


def gives_pixels(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(file, kind)
    return file.getvalue()


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["one", "two"], "messages": [[{"role": "user", "content": "a"}], []]}), file)
    return file.getvalue()


def arrow_bytes() -> bytes:
    file = io.BytesIO()
    made = pyarrow.table({"text": ["one", "two"], "number": [1, None], "list": [["a"], []]})
    with pyarrow.ipc.new_stream(file, made.schema, options=pyarrow.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(made)
    return file.getvalue()


def tar_bytes(kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, data in {"1.txt": b"a cat", "1.json": b'{"caption": "x"}', f"{'long' * 40}.cls": b"7"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def foreign_tokenizer() -> bytes:
    described = json.loads(Tokenizer.train_bpe(["user assistant hello how are you"] * 9, 270)._with_markup.to_str())
    described["added_tokens"] = described["added_tokens"][:1]
    return json.dumps(described).encode()


def model_config() -> bytes:
    return json.dumps({"format": 1, "stage": "pretrain", "config": to_dict(PRESETS["debug"])}).encode()


def write_beside(path: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (path.parent / name).write_bytes(data)


READERS: dict[str, tuple[str, Callable[[Path], object], bytes]] = {
    "json config": ("a.json", read_config, b'{"train": {"steps": 10, "betas": [0.9, 1e-3]}, "data": {"source": "x"}}'),
    "toml config": ("a.toml", read_config, b'[train]\nsteps = 10\nbetas = [0.9, 1e-3]\n[[a.b]]\nc = """x"""\n'),
    "yaml config": ("a.yaml", read_config, b"train:\n  steps: 10\n  betas: [0.9, 1e-3]\ndata: {source: x}\n"),
    "speech csv": ("a.csv", SPEECH.read, b'audio,text,speaker\na.wav,"hello, you",me\nb.wav,there,you\n'),
    "speech segments": (
        "a.jsonl",
        SPEECH.read,
        b'{"audio": "a.wav", "text": "hi", "offset": 1.5, "duration": 2, "speaker": 7, "split": "val"}\n',
    ),
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
    "speech tsv": ("a.tsv", SPEECH.read, 'audio\ttext\na.wav\t"hello"\nb.wav\tthere\n'.encode("utf-16")),
    "text jsonl.gz": ("a.jsonl.gz", consume(read_rows), gzip.compress(b'{"text": "one"}\n{"text": "two"}\n')),
    "text jsonl.zst": ("a.jsonl.zst", consume(read_rows), zstandard.compress(b'{"text": "one"}\n{"text": "two"}\n')),
    "conversations": (
        "a.json",
        read_dialogues,
        b'[{"conversations": [{"from": "human", "value": "<image>a"}, {"from": "gpt", "value": "b"}], "image": "a.png"}]',
    ),
    "data url": (
        "a.jsonl",
        read_dialogues,
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]},'
        b' {"role": "assistant", "content": "b"}]}\n',
    ),
    "coco": (
        "captions_train.json",
        read_coco_of,
        b'{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}',
    ),
    "kaldi": ("wav.scp", lambda path: list(read_kaldi(path, path.parent)), b"one a.wav\ntwo b.wav\n"),
    "kaldi segments": (
        "segments",
        lambda path: list(read_kaldi(path.parent / "wav.scp", path.parent)),
        b"one rec 0.0 1.5\ntwo rec 1.5 2.5\n",
    ),
    "subtitles": (
        "a.vtt",
        consume(read_subtitles),
        b"WEBVTT\n\n00:00.500 --> 00:01.000\n<v Anna>Hello &amp; &#65; <i>there</i>\n\n1:00:01.250 --> 1:00:02.500\n- (bang) x\n",
    ),
    "project": (
        "a.toml",
        lambda path: read_project(path, preset="debug"),
        b'preset = "debug"\n[asr]\ndata = "tinyworld"\n[asr.train]\nsteps = 3\n',
    ),
    "parquet": ("a.parquet", read_rows_of_table, parquet_bytes()),
    "arrow": ("a.arrow", read_rows_of_table, arrow_bytes()),
    "tar": ("a.tar", lambda path: list(read_tar(path, path)), tar_bytes(tarfile.PAX_FORMAT)),
    "tar of gnu": ("a.tar", lambda path: list(read_tar(path, path)), tar_bytes(tarfile.GNU_FORMAT)),
    "flac": ("a.flac", lambda path: read_audio(path, rate=16_000), gives_samples("FLAC", "PCM_16")),
    "ogg": ("a.ogg", lambda path: read_audio(path, rate=16_000), gives_samples("OGG", "VORBIS")),
    "mp3": ("a.mp3", lambda path: read_audio(path, rate=16_000), gives_samples("MP3", "MPEG_LAYER_III")),
    "png": ("a.png", read_image, gives_pixels("PNG")),
    "jpeg": ("a.jpg", read_image, gives_pixels("JPEG")),
    "webp": ("a.webp", read_image, gives_pixels("WEBP")),
    "foreign tokenizer": ("tokenizer.json", read_foreign_tokenizer, foreign_tokenizer()),
    "whole model config": (
        "config.json",
        lambda path: read_model_config(path.parent, "pretrain", PretrainConfig),
        model_config(),
    ),
    "log": ("metrics.jsonl", read_log, b'{"step": 1, "split": "train", "loss": 1.5}\n{"step": 2}\n'),
}


BESIDE: dict[str, dict[str, bytes]] = {
    "kaldi": {"text": b"one hello\ntwo there\n"},
    "kaldi segments": {"text": b"one hello\ntwo there\n", "wav.scp": b"rec a.wav\n"},
}
"""Files that a reader needs beside the one that is broken."""


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
    write_beside(path, BESIDE.get(name, {}))

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
