import csv
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import audio_files
import numpy as np
import pytest
import soundfile
from audio_files import ANEW, NOISE, SUBTYPES, far, patched, refused, sine, wav, write_audio
from mutated_files import check_report

from omnictl.data.audio import decoder
from omnictl.data.audio.decoder import AudioInfo, probe_audio, read_audio

# Values


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        ("wav", {"subtype": "PCM_U8"}, 2**-7),
        ("wav", {"subtype": "PCM_16"}, 2**-15),
        ("wav", {"subtype": "PCM_16", "endian": "BIG"}, 2**-15),
        ("wav", {"subtype": "PCM_24"}, 2**-23),
        ("wav", {"subtype": "PCM_24", "format": "WAVEX"}, 2**-23),
        ("wav", {"subtype": "PCM_24", "format": "RF64"}, 2**-23),
        ("wav", {"subtype": "PCM_32"}, 2**-24),
        ("wav", {"subtype": "FLOAT"}, 0),
        ("wav", {"subtype": "DOUBLE"}, 0),
        ("wav", {"subtype": "ULAW"}, 0.02),
        ("wav", {"subtype": "ALAW"}, 0.02),
        ("flac", {"subtype": "PCM_S8"}, 2**-7),
        ("flac", {"subtype": "PCM_16"}, 2**-15),
        ("flac", {"subtype": "PCM_24"}, 2**-23),
        ("ogg", {}, 0.05),
        ("opus", {}, 0.1),
        ("mp3", {}, 0.05),
        ("mp3", {"bitrate_mode": "CONSTANT"}, 0.05),
    ],
)
def test_every_format_and_bit_depth(tmp_path, suffix, options, tolerance):
    expected = sine(440, rate=16_000)
    path = write_audio(tmp_path / f"a.{suffix}", expected, 16_000, **options)
    samples = read_audio(path, rate=16_000)
    assert samples.dtype == np.float32
    assert samples.shape == (8_000,)
    assert far(samples, expected, edge=1_000 if tolerance > 0.02 else 0) <= tolerance
    assert probe_audio(path) == AudioInfo(0.5, 16_000, 1, 8_000)


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000, 44_101])
def test_every_rate(tmp_path, rate):
    path = write_audio(tmp_path / "a.wav", sine(200, rate=rate), rate, subtype="FLOAT")
    samples = read_audio(path, rate=16_000)
    assert abs(len(samples) - 8_000) <= 1
    assert far(samples[:7_999], sine(200, rate=16_000)[:7_999], edge=400) < 0.005
    assert probe_audio(path).rate == rate


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "opus"])
@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_every_rate_compressed(tmp_path, suffix, rate):
    path = write_audio(tmp_path / f"a.{suffix}", sine(440, rate=rate), rate)
    samples = read_audio(path, rate=16_000)
    assert far(samples, sine(440, rate=16_000), edge=1_000) < 0.1
    assert probe_audio(path) == AudioInfo(0.5, rate, 1, rate // 2)


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [("wav", 2), ("wav", 6), ("wav", 32), ("flac", 2), ("flac", 8), ("ogg", 2), ("ogg", 6), ("mp3", 2)],
)
def test_channels_are_averaged(tmp_path, suffix, channels):
    one = sine(440, rate=16_000)
    path = write_audio(tmp_path / f"a.{suffix}", np.outer(one, np.arange(channels) == 1).astype(np.float32), 16_000)
    assert probe_audio(path) == AudioInfo(0.5, 16_000, channels, 8_000)
    assert far(read_audio(path, rate=16_000), one / channels, edge=1_000) < (0.03 if suffix in ("ogg", "mp3") else 2**-15)


def test_floats_above_full_scale_are_kept(tmp_path):
    loud = sine(440, rate=16_000, level=1.5)
    assert far(read_audio(write_audio(tmp_path / "a.wav", loud, 16_000, subtype="FLOAT"), rate=16_000), loud) == 0


@pytest.mark.parametrize("suffix", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_are_the_whole(tmp_path, monkeypatch, capfd, suffix, channels):
    audio = NOISE if channels == 1 else np.stack([NOISE, NOISE[::-1]], axis=1)
    path = write_audio(tmp_path / f"a.{suffix}", audio, 16_000)
    whole = read_audio(path, rate=16_000)
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert far(whole, decoded.mean(axis=1)) < (1e-6 if suffix == "mp3" else 1e-9)  # it seeks in the MP3 first
    capfd.readouterr()
    monkeypatch.setattr(decoder, "_BLOCK", 999)
    assert np.array_equal(read_audio(path, rate=16_000), whole)
    assert capfd.readouterr() == ("", "")


def test_memory_of_decoding_is_that_of_the_result(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((48_000 * 30, 2), np.int16), 48_000)
    read_audio(path, rate=48_000)
    tracemalloc.start()
    samples = read_audio(path, rate=48_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * samples.nbytes + (8 << 20)


def test_real_recordings(test_data):
    folder = test_data / "speech_bits"
    with (folder / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17
    for row in rows:
        info = probe_audio(folder / row["audio"])
        assert info.seconds == pytest.approx(float(row["seconds"]), abs=0.01)
        samples = read_audio(folder / row["audio"], rate=24_000)
        assert len(samples) == -(-info.frames * 24_000 // info.rate)
        assert 0.005 < samples.std() < 0.5
        assert np.abs(samples).max() < 1.1


# What is claimed, and what is decoded


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_no_samples(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", NOISE[:0], 16_000)
    error = refused(path)
    assert error.message == f"{path} holds no samples"
    assert error.fix == "record or download it anew, or take it out of the data"


def test_a_wav_without_a_format(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVEdata\4\0\0\0\0\0\0\0")
    error = refused(path)
    assert error.message == f"{path} cannot be opened as audio: Error in WAV file. No 'data' chunk marker"
    assert error.fix == "copy or download it anew, or convert it (ffmpeg -i a.wav a.new.flac)"


@pytest.mark.parametrize("num_bytes", [16, 4_000])
def test_two_data_chunks(tmp_path, num_bytes):
    path = wav(tmp_path / "a.wav", b"\1\2" * 500)
    path.write_bytes(path.read_bytes() + b"data" + num_bytes.to_bytes(4, "little") + bytes(num_bytes))
    error = refused(path)
    assert error.message == f"{path} cannot be opened as audio: Internal error : SF_INFO struct incomplete"
    assert error.fix == "copy or download it anew, or convert it (ffmpeg -i a.wav a.new.flac)"


def test_flac_frames_that_are_broken(tmp_path):
    path = write_audio(tmp_path / "a.flac", NOISE, 16_000)
    error = refused(patched(path, len(path.read_bytes()) // 2, bytes(8)))
    assert error.message == f"{path} is broken after 0.0 of 0.5 s: flac decoder lost sync"
    assert error.fix == ANEW


def test_flac_that_is_shorter_than_it_says(tmp_path):
    path = patched(write_audio(tmp_path / "a.flac", NOISE, 16_000), 22, (9_000).to_bytes(4, "big"))
    error = refused(path)
    assert error.message == f"{path} is broken: its header promises 9,000 frames, 8,000 could be decoded"
    assert error.fix == ANEW


def test_flac_that_is_longer_than_it_says(tmp_path):
    """libFLAC stops where the header says: only the checksum tells."""
    path = patched(write_audio(tmp_path / "a.flac", NOISE, 16_000), 22, (4_000).to_bytes(4, "big"))
    assert probe_audio(path).frames == 4_000
    error = refused(path)
    assert error.message == f"{path} is broken: its samples do not have the checksum that its header gives"
    assert error.fix == ANEW


# Bounds


@pytest.fixture
def no_decoding(monkeypatch):
    def read(*args, **options):
        raise AssertionError("decoded")

    monkeypatch.setattr(decoder._Sequential, "read", read)


def ten_hours_of_wav(path):
    num_bytes = 10 * 3_600 * 16_000 * 2
    wav(path, b"", num_bytes=num_bytes)
    os.truncate(path, 44 + num_bytes)  # a hole: it takes no room on the disk
    return path


def ten_hours_of_flac(path):
    return patched(write_audio(path, NOISE, 16_000), 22, (36_000 * 16_000).to_bytes(4, "big"))


@pytest.mark.parametrize(("write", "suffix"), [(ten_hours_of_wav, "wav"), (ten_hours_of_flac, "flac")])
def test_ten_hours(tmp_path, no_decoding, write, suffix):
    path = write(tmp_path / f"a.{suffix}")
    error = refused(path)
    assert error.message == f"{path} is 36,000 s long; at most 3,600 s were expected"
    assert error.fix == f"cut it into shorter files (ffmpeg -i a.{suffix} -f segment -segment_time 30 a-%04d.flac)"
    assert probe_audio(path, max_seconds=36_000).frames == 36_000 * 16_000


@pytest.mark.parametrize("suffix", SUBTYPES)
def test_the_caller_sets_the_longest(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", np.tile(NOISE, 6), 16_000)
    assert len(read_audio(path, rate=16_000, max_seconds=3)) == 48_000
    assert refused(path, max_seconds=2).message == f"{path} is 3 s long; at most 2 s were expected"


@pytest.mark.parametrize("rate", [1, 999, 384_001, 2**31 - 1])
def test_absurd_rates(tmp_path, no_decoding, rate):
    path = wav(tmp_path / "a.wav", bytes(64), rate=rate)
    error = refused(path)
    assert error.message == f"{path} has {rate:,} samples a second; between 1,000 and 384,000 were expected"
    assert error.fix == "correct its header, or resample it (ffmpeg -i a.wav -ar 48000 a.new.flac)"


def test_too_many_channels(tmp_path, no_decoding):
    path = wav(tmp_path / "a.wav", bytes(660), channels=33)
    error = refused(path)
    assert error.message == f"{path} has 33 channels; at most 32 were expected"
    assert error.fix == "mix it down (ffmpeg -i a.wav -ac 1 a.new.flac)"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_no_numbers(tmp_path, monkeypatch, value, channels):
    monkeypatch.setattr(decoder, "_BLOCK", 4_000 * channels)
    audio = np.zeros((8_000, channels), np.float32)
    audio[5_000, -1] = value
    path = write_audio(tmp_path / "a.wav", audio, 16_000, subtype="FLOAT")
    error = refused(path)
    assert error.message == f"{path} has samples that are not finite numbers after 0.2 s"
    assert error.fix == "write it anew without NaN and infinity, or take it out of the data"


@pytest.mark.parametrize(("subtype", "level"), [("FLOAT", 32_767), ("FLOAT", 3e38), ("DOUBLE", 32_767)])
def test_floats_that_were_never_scaled(tmp_path, subtype, level):
    path = write_audio(tmp_path / "a.wav", np.full((100, 2), level, np.float32), 16_000, subtype=subtype)
    error = refused(path)
    assert error.message == f"{path} has samples up to {np.float32(level):,.0f} after 0.0 s; between -1 and 1 was expected"
    assert error.fix == "write it anew within that (whole numbers of 16 bits are divided by 32768), or take it out of the data"


# Broken at random


@pytest.fixture(scope="module", params=[60, pytest.param(2_000, marks=pytest.mark.faults)])
def broken_files(tmp_path_factory, request):
    """What became of so many mutated files of every format, read in processes of their own; and what these had to say."""
    paths = [str(Path(decoder.__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [
        sys.executable,
        "-W",
        "error",
        "-X",
        "faulthandler",
        audio_files.__file__,
        str(request.param),
        str(tmp_path_factory.mktemp("broken")),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr, request.param


@pytest.mark.parametrize("suffix", SUBTYPES)
def test_mutated_files_are_read_or_refused(broken_files, suffix):
    report, complaints, count = broken_files[0][suffix], *broken_files[1:]
    check_report(report, complaints, count, read=count / 100, refusals=min(8, count / 75))
