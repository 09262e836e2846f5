"""What the doctor says of installed software, of which each test breaks one piece."""

import sys
from pathlib import Path

import pytest

from omnictl.errors import DataError
from omnictl.measure.doctor.finding import Finding
from omnictl.measure.doctor.software import (
    PlaybackDevices,
    Wheels,
    check_audio_formats,
    check_compiler,
    check_espeak,
    check_image_formats,
    check_playback,
    check_python,
    check_wheels,
    read_playback_devices,
    read_wheels,
)
from omnictl.tinyworld.speech.espeak import Request

WHEELS = Wheels({"torch": "2.14.1+cu130", "torchaudio": "2.11.0+cu130", "torchvision": "0.29.1+cu130"}, {}, [])


def shows(finding: Finding, level: str, words: str, fix: str | None = None) -> bool:
    return finding.level == level and words in finding.message and (fix in (finding.fix or "") if fix else finding.fix is None)


def shadow(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module in front of an installed one."""
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_python_and_the_system() -> None:
    assert shows(check_python((3, 12), "Linux"), "ok", "3.12 on Linux")
    assert shows(check_python((3, 10), "Linux"), "fail", "needs 3.11 or newer", "newer Python")
    assert shows(check_python((3, 12), "Windows"), "warn", "tested on Linux only", "WSL")


def test_wheels_that_do_not_belong_together() -> None:
    assert shows(check_wheels(WHEELS), "ok", "torchvision 0.29.1+cu130")
    other = WHEELS._replace(versions={**WHEELS.versions, "torchvision": "0.29.1+cpu"})
    assert shows(check_wheels(other), "fail", "torch 2.14.1+cu130, torchaudio 2.11.0+cu130, torchvision 0.29.1+cpu", "one index")
    broken = WHEELS._replace(broken={"torchaudio": "libcudart.so.13: cannot open shared object file"})
    assert shows(check_wheels(broken), "fail", "torchaudio cannot be imported beside torch 2.14.1+cu130", "--force-reinstall torch")
    unmet = WHEELS._replace(unmet=["pillow>=12.3.0, found 11.0"])
    assert shows(check_wheels(unmet), "fail", "omnictl needs pillow>=12.3.0, found 11.0", "pip install 'pillow>=12.3.0'")


def test_the_installed_wheels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch" in read_wheels(imported=False).versions
    shadow("torchvision", "raise RuntimeError('operator torchvision::nms does not exist')", tmp_path, monkeypatch)
    assert read_wheels(imported=True).broken == {"torchvision": "operator torchvision::nms does not exist"}


def test_voices_that_cannot_speak() -> None:
    asked: list[Request] = []
    assert shows(check_espeak(asked.extend), "ok", "37 voices speak")
    assert len({request.voice for request in asked}) == 37

    def refuse(requests: list[Request]) -> None:
        raise DataError("espeak-ng failed (exit code 1): no voice en-029", fix="…")

    assert shows(check_espeak(refuse), "fail", "no voice en-029", "--force-reinstall espeakng-loader")


def test_audio_formats() -> None:
    known = {"WAV": "", "FLAC": "", "OGG": ""}
    assert shows(check_audio_formats(), "ok", "FLAC")
    assert shows(check_audio_formats(lambda: known), "warn", "cannot read MP3 (Common Voice)", "soundfile")

    def missing() -> dict[str, str]:
        raise OSError("sndfile library not found")

    assert shows(check_audio_formats(missing), "fail", "sndfile library not found", "--force-reinstall soundfile")


def test_image_formats() -> None:
    assert shows(check_image_formats(), "ok", "JPEG")
    assert shows(check_image_formats(lambda feature: feature != "jpg"), "warn", "cannot read JPEG", "pillow")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "raise OSError('PortAudio library not found')",
            PlaybackDevices(installed=True, error="PortAudio library not found", output=None),
        ),
        ("def query_devices(kind): return {'name': 'speakers'}", PlaybackDevices(installed=True, error=None, output="speakers")),
        (
            "class PortAudioError(Exception): pass\ndef query_devices(kind): raise PortAudioError('no device')",
            PlaybackDevices(installed=True, error=None, output=None),
        ),
    ],
)
def test_playback_devices_are_asked(
    source: str, expected: PlaybackDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shadow("sounddevice", source, tmp_path, monkeypatch)
    assert read_playback_devices() == expected


def test_playback() -> None:
    assert shows(check_playback(PlaybackDevices(installed=False, error=None, output=None)), "ok", "omnictl[play]")
    missing = PlaybackDevices(installed=True, error="PortAudio library not found", output=None)
    assert shows(check_playback(missing), "warn", "PortAudio is missing", "apt install libportaudio2")
    silent = PlaybackDevices(installed=True, error=None, output=None)
    assert shows(check_playback(silent), "warn", "no device to play on", "--speak FILE")


def test_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    assert shows(check_compiler(lambda name: f"/usr/bin/{name}" if name == "g++" else None), "ok", "/usr/bin/g++")
    assert shows(check_compiler(lambda name: None), "warn", "train.runtime.compile", "apt install g++")
