"""An omni model as ONNX graphs."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stage_factory import finished_run
from torch import nn

from omnictl.data.images.file_corpus import load_image
from omnictl.errors import ConfigError, ExportError
from omnictl.export.omni import OmniParts, open_parts
from omnictl.export.onnx import graph_files
from omnictl.export.onnx.graph_check import compare_graphs
from omnictl.export.onnx.graph_files import chat_facts, write_graphs
from omnictl.export.onnx.graphs import GriffinLimGraph, ThinkerGraph, Transform
from omnictl.generate.griffin_lim import magnitudes
from omnictl.models.vocoder import NeuralVocoder, VocoderConfig
from omnictl.nn.audio.mel import MelConfig
from omnictl.runs.checksums import seal_anew

ROOT = Path(__file__).parents[3]


@pytest.fixture
def parts(tmp_path: Path, randomise: Callable[[nn.Module], None]) -> OmniParts:
    """An omni model with random weights in all of its parts."""
    opened = open_parts(finished_run(tmp_path / "runs", "sft").model, tmp_path / "cache", with_voice=True)
    assert opened.voice is not None
    for module in (opened.omni, opened.ear, opened.eye, opened.voice.talker, opened.voice.codec.decoder):
        assert module is not None
        randomise(module)
    opened.voice.talker.expect_durations(1.5)
    return opened


@pytest.mark.slow
def test_every_graph_agrees_and_a_wrong_one_does_not(parts: OmniParts, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    write_graphs(parts, tmp_path)
    found = {one.what for one in compare_graphs(parts, tmp_path)}
    assert {"Thinker's scores", "greedy text", "audio encoder", "vision encoder", "Talker's likeliest codes", "codec"} <= found
    with torch.no_grad():
        parts.omni.projectors["image"].down.weight.mul_(1.5)
    with pytest.raises(ExportError, match="vision encoder: the export differs from the run by up to"):
        compare_graphs(parts, tmp_path)
    facts = json.loads((tmp_path / "chat.json").read_text())
    assert facts == json.loads(json.dumps(chat_facts(parts)))
    command = [sys.executable, str(ROOT / "examples" / "onnx_chat.py"), str(tmp_path), "--audio", "examples/question.wav"]
    command += ["--image", "examples/scene.png", "--speak", str(tmp_path / "reply.wav")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "chat.json").write_text(json.dumps(facts | {"context": 9}))
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 1
    assert "tokens long, this model reads at most 8: ask a shorter one" in ended.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--audio", "a.wav"], "--audio needs audio_encoder.onnx, which .* lacks"),
        (["--image", "a.png"], "--image needs vision_encoder.onnx, which .* lacks"),
        (["--speak", "b.wav"], "--speak needs vocoder.onnx, which .* lacks"),
        ([], "ask with --audio, with --image or with both"),
    ],
)
def test_the_program_names_what_a_model_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(sys, "argv", ["onnx_chat.py", str(tmp_path), *options])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(ROOT / "examples" / "onnx_chat.py"), run_name="__main__")


def test_a_placeholder_without_a_feature_is_a_token_like_others(parts: OmniParts) -> None:
    thinker = parts.omni.thinker
    tokens = torch.tensor([0, 4, 9, 5, 4])
    none = torch.zeros(thinker.config.layers, thinker.config.kv_heads, 0, thinker.config.head_width)
    features = torch.randn(1, thinker.config.width)
    embeddings = thinker.embedding(tokens)
    embeddings[1] = features[0]
    with torch.no_grad():
        got, _, _ = ThinkerGraph(thinker)(tokens, features, torch.arange(5), none, none)
        expected = thinker.logits(thinker(embeddings=embeddings[None]).hidden)[0, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_the_transform_is_the_inverse_of_its_own() -> None:
    transform = Transform(MelConfig())
    samples = torch.randn(1, 512 + 20 * 160)
    real, imaginary = transform.analyse(samples)
    expected = torch.stft(samples, 512, 160, 400, torch.hann_window(400), center=False, return_complex=True)[0].T
    torch.testing.assert_close(torch.complex(real, imaginary), expected, atol=1e-4, rtol=0)
    inside = slice(512, -512)
    torch.testing.assert_close(transform.synthesise(real, imaginary)[:, inside], samples[:, inside], atol=1e-4, rtol=0)


def test_magnitudes_are_those_of_griffin_lim() -> None:
    config = MelConfig()
    mel = -5 * torch.rand(9, config.bins)
    torch.testing.assert_close(GriffinLimGraph(config)._magnitudes(mel), magnitudes(mel, config))


def test_a_trained_vocoder_gives_the_same_sound(randomise: Callable[[nn.Module], None]) -> None:
    network = NeuralVocoder(VocoderConfig(width=16, hidden=32, layers=2)).eval()
    randomise(network)
    mel = -5 * torch.rand(13, network.config.mel.bins)
    with torch.no_grad():
        expected = network(mel[None])[0].clamp(-1, 1)
        got = graph_files.NeuralVocoderGraph(network)(mel)
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_what_has_no_graph_is_named(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "runs", "sft")
    described = json.loads((run.model / "config.json").read_text())
    described["config"]["model"]["positions"] = "time"
    (run.model / "config.json").write_text(json.dumps(described))
    seal_anew(run.model)
    with pytest.raises(ConfigError, match=r"model.positions=time, exports of omni models count"):
        open_parts(run.model, tmp_path / "cache", with_voice=False)


def test_a_talker_that_has_no_graphs_is_refused_before_any_is_traced(
    parts: OmniParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(graph_files, "_trace", pytest.fail)
    assert parts.voice is not None
    others: list[tuple[dict[str, Any], str]] = [
        ({"conditioner": object()}, "reads a Thinker's states along"),
        ({"pronunciation": object()}, "a Talker of phonemes needs espeak-ng"),
    ]
    for changes, message in others:
        with pytest.raises(ConfigError, match=message) as caught:
            write_graphs(parts._replace(voice=replace(parts.voice, **changes)), tmp_path)
        assert "`omnictl export --to folder --out DIR` leaves the Talker out" in caught.value.fix


def test_the_program_has_about_a_hundred_lines() -> None:
    assert len((ROOT / "examples" / "onnx_chat.py").read_text().splitlines()) <= 110


@pytest.mark.parametrize(("name", "bands"), [("a.jpg", 3), ("a.png", 4)])
def test_the_program_sees_images_as_the_run_does(tmp_path: Path, name: str, bands: int) -> None:
    """Turned as their EXIF says, on white where they are transparent."""
    pytest.importorskip("onnxruntime")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, bands), dtype=np.uint8)).save(tmp_path / name, exif=exif)
    read_image = runpy.run_path(str(ROOT / "examples" / "onnx_chat.py"))["read_image"]
    assert np.array_equal(read_image(tmp_path / name, 16), load_image(tmp_path / name, 16))
