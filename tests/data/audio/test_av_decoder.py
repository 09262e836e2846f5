import sys

import numpy as np
import pytest

from omnictl.data.audio.av_decoder import is_av_file
from omnictl.data.audio.decoder import probe_audio, read_audio
from omnictl.errors import DataError

av = pytest.importorskip("av")

RATE = 16_000
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.float32)


def write(path, codec, layout="mono"):
    """Three seconds of a tone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, 48_000, stream.codec_context.frame_size or 960)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))


@pytest.fixture(scope="module", params=["m4a", "mp4", "webm", "mkv", "aac"])
def recording(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("av") / f"a.{request.param}"
    write(path, "libopus" if request.param in ("webm", "mkv") else "aac", "stereo" if request.param == "mp4" else "mono")
    return path


def test_what_is_decoded_is_what_was_encoded(recording):
    samples = read_audio(recording, rate=RATE)
    assert probe_audio(recording).seconds == pytest.approx(3, abs=0.07)
    assert len(samples) / RATE == pytest.approx(probe_audio(recording).seconds, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(samples[RATE : 2 * RATE]))
    assert spectrum.argmax() == 440
    assert 0.2 < np.abs(samples[RATE : 2 * RATE]).max() < 0.35  # two channels of half the power each are 0.21


def test_half_of_a_file_is_an_error(recording):
    path = recording.with_name(f"cut{recording.suffix}")
    content = recording.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"is (broken|cut off)") as error:
        probe_audio(path)
    assert error.value.fix == "copy or download it anew, or take it out of the data"


def test_too_long(recording):
    with pytest.raises(DataError, match=r"is \d s long; at most 1 s were expected"):
        read_audio(recording, rate=RATE, max_seconds=1)


def test_no_audio_in_it(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="has no audio"):
        probe_audio(path)


def test_av_is_an_extra(tmp_path, monkeypatch):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x1cftypM4A \0\0\2\0")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError) as error:
        probe_audio(path)
    assert error.value.message == f"{path}: reading .m4a needs the package av"
    assert error.value.fix == "pip install 'omnictl[av]', or convert it (ffmpeg -i a.m4a a.flac)"


@pytest.mark.parametrize(
    ("head", "known"),
    [(b"\0\0\0\x1cftypM4A ", True), (b"\x1aE\xdf\xa3", True), (b"\xff\xf1", True), (b"\xff\xfb", False), (b"", False)],
)
def test_heads(head, known):
    assert is_av_file(head) == known
