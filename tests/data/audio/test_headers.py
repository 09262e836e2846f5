import errno
import os
from pathlib import Path

import numpy as np
import pytest
from audio_files import (
    ANEW,
    NOISE,
    SUBTYPES,
    complaint,
    far,
    ogg_pages,
    patched,
    refused,
    wav,
    with_checksums,
    write_audio,
)

from omnictl.data.audio import headers
from omnictl.data.audio.decoder import probe_audio, read_audio
from omnictl.errors import DataError

CONVERT = "copy or download it anew, or, if players play it whole, convert it (ffmpeg -i a.{0} a.new.flac)"
"""The fix for a file that may be whole all the same."""


@pytest.mark.parametrize("name", ["recording", "A.WAV", "a.mp3", os.fsdecode(b"caf\xe9.wav")])
def test_the_content_decides_not_the_name(tmp_path, name):
    path = write_audio(tmp_path / "a.wav", NOISE, 16_000).rename(tmp_path / name)
    assert far(read_audio(path, rate=16_000), NOISE) <= 2**-15


@pytest.mark.parametrize("num_bytes", [0xFFFF_FFFF, 0x7FFF_F000, 0x7FFF_EFFE, 0xFFFF_F000])  # FFmpeg, SoX, SoX with 24 bits
def test_a_wav_from_a_pipe_does_not_know_its_length(tmp_path, num_bytes):
    path = wav(tmp_path / "a.wav", b"\1\2" * 500, num_bytes=num_bytes)
    assert probe_audio(path).frames == len(read_audio(path, rate=16_000)) == 500


def test_a_wav_whose_size_was_never_filled_in(tmp_path):
    """libsndfile reads no sample of it, FFmpeg all."""
    error = refused(wav(tmp_path / "a.wav", b"\1\2" * 500, num_bytes=0))
    assert error.message == f"{tmp_path / 'a.wav'} does not say how long it is, as a WAV that was written to a pipe"
    assert error.fix == "convert it (ffmpeg -i a.wav a.new.flac)"
    for rest in (b"", b"LIST\4\0\0\0INFO"):
        error = refused(wav(tmp_path / "a.wav", rest, num_bytes=0))
        assert error.message == f"{tmp_path / 'a.wav'} holds no samples"


def test_a_wav_has_other_chunks(tmp_path):
    path = wav(tmp_path / "a.wav", b"\1\2" * 500)
    data = path.read_bytes()
    path.write_bytes(data[:36] + b"LIST\5\0\0\0INFOx\0" + data[36:] + b"LIST\4\0\0\0INFO")
    assert len(read_audio(path, rate=16_000)) == 500


def test_tags_around_an_mp3(tmp_path):
    path = write_audio(tmp_path / "a.mp3", NOISE, 16_000)
    plain = read_audio(path, rate=16_000)
    path.write_bytes(b"ID3\3\0\0\0\0\1\x0c" + bytes(140) + path.read_bytes() + b"TAG" + bytes(125))
    assert np.array_equal(read_audio(path, rate=16_000), plain)


@pytest.mark.parametrize("padding", [bytes(1), bytes(3), bytes(5_000), bytes(500) + b"TAG" + bytes(125)])
def test_zeros_behind_an_mp3(tmp_path, padding):
    path = write_audio(tmp_path / "a.mp3", NOISE, 16_000)
    plain = read_audio(path, rate=16_000)
    path.write_bytes(path.read_bytes() + padding)
    assert np.array_equal(read_audio(path, rate=16_000), plain)


def test_zeros_of_a_download_that_did_not_end(tmp_path):
    path = write_audio(tmp_path / "a.mp3", NOISE, 16_000)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(1 << 17))
    error = refused(path)
    assert error.message.startswith(f"{path} is broken: no MP3 frame at byte {size:,}, after ")
    assert error.fix == CONVERT.format("mp3")


def test_an_mp3_of_constant_bit_rate_needs_no_xing_header(tmp_path):
    path = write_audio(tmp_path / "a.mp3", NOISE, 44_100, bitrate_mode="CONSTANT", compression_level=0.5)
    data = path.read_bytes()
    whole = read_audio(path, rate=44_100)
    path.write_bytes(data[headers._mp3_frame_bytes(int.from_bytes(data[:4], "big")) :])
    samples = read_audio(path, rate=44_100)
    assert len(samples) % 1152 == 0  # without the header nobody knows how much silence the encoder added
    delay = int(np.argmax(np.correlate(samples, whole[:4_000], mode="valid")))
    assert 0 < delay < 2 * 1152
    assert far(samples[delay:][: len(whole)], whole, edge=1_000) < 0.01
    path.write_bytes(path.read_bytes() + bytes(1_000))
    assert np.array_equal(read_audio(path, rate=44_100), samples)
    path.write_bytes(path.read_bytes() + bytes(24))  # libmpg123 would give up
    assert refused(path).fix == CONVERT.format("mp3")


def test_flac_without_a_checksum(tmp_path):
    path = write_audio(tmp_path / "a.flac", NOISE, 16_000)
    assert far(read_audio(patched(path, 26, bytes(16)), rate=16_000), NOISE) <= 2**-15


# Errors


def test_missing_file(tmp_path):
    error = refused(tmp_path / "none.wav")
    assert error.message == f"no such file: {tmp_path / 'none.wav'}"
    assert error.fix == "give the path of a WAV, FLAC, OGG, MP3, M4A or WebM file"


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path, found in ((tmp_path, "a folder"), (tmp_path / "pipe.wav", "a pipe or a device")):
        error = refused(path)
        assert error.message == f"{path} is {found}, not audio"
        assert error.fix == "give the path of a WAV, FLAC, OGG, MP3, M4A or WebM file"


def test_unreadable_file(tmp_path, monkeypatch):
    path = write_audio(tmp_path / "a.wav", NOISE, 16_000)

    def deny(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    error = refused(path)
    assert (error.message, error.fix) == (f"cannot read {path}: Permission denied", "make it readable for this user")


def test_empty_file(tmp_path):
    path = tmp_path / "a.wav"
    path.touch()
    error = refused(path)
    assert (error.message, error.fix) == (f"{path} is empty: 0 bytes", ANEW)


@pytest.mark.parametrize(
    ("content", "shown", "fix"),
    [
        (b"hello", "b'hello'", "download the recording itself (`git lfs pull` where it is a Git LFS pointer)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "b'version https://'",
            "download the recording itself (`git lfs pull` where it is a Git LFS pointer)",
        ),
        (b"RIFF\0\0\0\0AVI LIST", r"b'RIFF\x00\x00\x00\x00AVI LIST'", "convert it (ffmpeg -i a.wav a.flac)"),
        (b"\xff\xfd\x84\0", r"b'\xff\xfd\x84\x00'", "convert it (ffmpeg -i a.wav a.flac)"),  # MPEG layer II
        (b"ID3\3\0\0\0\0\0\4....text", "b'text'", "download the recording itself (`git lfs pull` where it is a Git LFS pointer)"),
    ],
)
def test_other_formats(tmp_path, content, shown, fix):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    error = refused(path)
    assert error.message == f"{path} is not a WAV, FLAC, OGG, MP3, M4A or WebM file: it begins with {shown}"
    assert error.fix == fix


def test_audio_named_raw(tmp_path):
    path = write_audio(tmp_path / "a.wav", NOISE, 16_000).rename(tmp_path / "a.raw")
    error = refused(path)
    assert error.message == f"{path} is audio with a header, but soundfile takes every .raw for samples alone"
    assert error.fix == "rename it to .wav, .flac, .ogg or .mp3"


@pytest.mark.parametrize("suffix", SUBTYPES)
def test_a_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", NOISE, 16_000)
    data = path.read_bytes()
    boundaries = np.cumsum([len(page) for page in ogg_pages(data)])[:-1] if suffix in ("ogg", "opus") else [2, 8, 12, 36, 44]
    for end in {*range(1, len(data), len(data) // 40), *boundaries, len(data) - 1}:
        path.write_bytes(data[:end])
        refused(path)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus"])
def test_a_changed_bit_is_noticed_or_changes_no_sample(tmp_path, suffix):
    path = write_audio(tmp_path / f"a.{suffix}", NOISE, 16_000)
    data, whole = path.read_bytes(), read_audio(path, rate=16_000)
    num_refused = 0
    for at in range(0, len(data), len(data) // 60):
        path.write_bytes(data)
        patched(path, at, bytes([data[at] ^ 4]))
        try:
            assert np.array_equal(read_audio(path, rate=16_000), whole)
        except DataError:
            num_refused += 1
    assert num_refused > 50


def test_a_wav_that_is_cut(tmp_path):
    path = write_audio(tmp_path / "a.wav", NOISE, 16_000)
    path.write_bytes(path.read_bytes()[:-6_000])
    error = refused(path)
    assert error.message == f"{path} is cut off: its samples should take 16,000 bytes, 10,000 are there"
    assert error.fix == ANEW


@pytest.mark.parametrize("rest", [b"", b"LIST\4\0\0\0INFO", bytes(1 << 20)])
def test_a_wav_without_samples(tmp_path, rest):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + rest)
    error = refused(path)
    assert (error.message, error.fix) == (f"{path} is cut off or broken: a WAV header without a 'data' chunk", ANEW)


@pytest.mark.parametrize("num_chunks", [900, 1_100])
def test_a_wav_may_have_many_chunks_but_not_without_end(tmp_path, num_chunks):
    path = wav(tmp_path / "a.wav", b"\1\2" * 500)
    data = path.read_bytes()
    path.write_bytes(data[:36] + b"JUNK\0\0\0\0" * num_chunks + data[36:])
    assert (complaint(probe_audio, path) is None) == (num_chunks == 900)


def test_a_wav_with_compressed_samples(tmp_path):
    path = write_audio(tmp_path / "a.wav", NOISE, 16_000, subtype="IMA_ADPCM")
    error = refused(path)
    assert error.message == f"{path} is a WAV with compressed samples (format 0x0011); whole numbers or floats were expected"
    assert error.fix == "convert it (ffmpeg -i a.wav a.flac)"


def test_flac_of_unknown_length(tmp_path):
    path = patched(write_audio(tmp_path / "a.flac", NOISE, 16_000), 22, bytes(4))
    error = refused(path)
    assert error.message == f"{path} does not say how long it is, as FLAC that was written to a pipe"
    assert error.fix == "convert it (ffmpeg -i a.flac a.new.flac)"


def test_flac_without_its_first_block(tmp_path):
    path = patched(write_audio(tmp_path / "a.flac", NOISE, 16_000), 4, b"\1")
    error = refused(path)
    assert (error.message, error.fix) == (f"{path} is cut off or broken: a FLAC header without STREAMINFO", ANEW)


def ogg_of(path, pages):
    path.write_bytes(b"".join(pages))
    return path


@pytest.fixture
def pages(tmp_path):
    """Of an Ogg file with three or more pages of audio."""
    audio = (0.3 * np.random.default_rng(1).standard_normal(64_000)).astype(np.float32)
    return ogg_pages(write_audio(tmp_path / "whole.ogg", audio, 16_000).read_bytes())


def test_ogg_pages_in_order(tmp_path, pages):
    assert len(pages) >= 6
    assert len(read_audio(ogg_of(tmp_path / "a.ogg", pages), rate=16_000)) == 64_000


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda pages: [*pages[:3], *pages[4:]], "is broken: Ogg page 3 is missing"),
        (lambda pages: [*pages[:3], pages[4], pages[3], *pages[5:]], "is broken: Ogg page 3 is missing"),
        (lambda pages: [*pages[:3], b"junk", *pages[3:]], "is broken: no Ogg page where page 3 should begin"),
        (lambda pages: [*pages, b"junk"], "is broken: no Ogg page where page {last} should begin"),
        (
            lambda pages: [*pages[:3], pages[3][:-9] + b"\0" + pages[3][-8:], *pages[4:]],
            "is broken: Ogg page 3 does not have the checksum that its header gives",
        ),
        (lambda pages: [*pages[:3], pages[3][:-9]], "is cut off in Ogg page 3"),
        (lambda pages: [*pages[:3], pages[3][:20]], "is cut off in Ogg page 3"),
        (lambda pages: pages[:4], "is cut off: the last of its 4 Ogg pages is not marked as the last"),
    ],
)
def test_ogg_pages_that_do_not_add_up(tmp_path, pages, change, found):
    path = ogg_of(tmp_path / "a.ogg", change(pages))
    error = refused(path)
    fix = CONVERT.format("ogg") if "marked" in found else ANEW
    assert (error.message, error.fix) == (f"{path} {found.format(last=len(pages))}", fix)


def test_several_ogg_streams(tmp_path, pages):
    other = ogg_pages(write_audio(tmp_path / "b.ogg", NOISE, 16_000).read_bytes())
    path = tmp_path / "a.ogg"
    for mixed in ([*pages, *other], [pages[0], *other], [*pages, *pages]):
        error = refused(ogg_of(path, mixed))
        assert error.message == f"{path} holds several Ogg streams; one was expected"
        assert error.fix == "take one out (ffmpeg -i a.ogg -map 0:a:0 a.flac)"


def test_checksums_of_ogg(pages):
    assert with_checksums(b"".join(pages)) == b"".join(pages)


@pytest.fixture
def mp3_frames(tmp_path):
    data = write_audio(tmp_path / "whole.mp3", NOISE, 16_000).read_bytes()
    frames = []
    while data:
        length = headers._mp3_frame_bytes(int.from_bytes(data[:4], "big"))
        frames.append(data[:length])
        data = data[length:]
    return frames


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda frames: [*frames[:5], *frames[6:]], "is broken: its header promises {n:,} MP3 frames, {less:,} are there"),
        (lambda frames: [*frames[:5], *frames[4:]], "is broken: its header promises {n:,} MP3 frames, {more:,} are there"),
        (lambda frames: [*frames[:5], b"junk", *frames[5:]], "is broken: no MP3 frame at byte {at:,}, after 5 frames"),
        (
            lambda frames: [*frames[:5], b"\xff\xfb\x90\xc4", *frames[5:]],  # of another version
            "is broken: no MP3 frame at byte {at:,}, after 5 frames",
        ),
        (
            lambda frames: [*frames[:5], frames[5][:-1]],
            "is cut off in MP3 frame 5: it should end at byte {end:,} of {short:,}",
        ),
        (lambda frames: [*frames, b"\xff\xf3"], "is broken: no MP3 frame at byte {all:,}, after {count:,} frames"),
    ],
)
def test_mp3_frames_that_do_not_add_up(tmp_path, mp3_frames, change, found):
    path = ogg_of(tmp_path / "a.mp3", change(mp3_frames))
    count = len(mp3_frames)
    at, end = (sum(map(len, mp3_frames[:n])) for n in (5, 6))
    numbers = {"n": count - 1, "less": count - 2, "more": count, "at": at, "end": end, "short": end - 1}
    error = refused(path)
    assert error.message == f"{path} {found.format(**numbers, all=sum(map(len, mp3_frames)), count=count)}"
    assert error.fix == (ANEW if "cut off" in found else CONVERT.format("mp3"))


def test_an_mp3_of_changing_bit_rate_needs_a_xing_header(tmp_path, mp3_frames):
    path = ogg_of(tmp_path / "a.mp3", mp3_frames[1:])
    error = refused(path)
    held = 576 * (len(mp3_frames) - 1)
    assert error.message.startswith(f"{path} holds {held:,} samples a channel, of which libsndfile would read ")
    assert error.fix == "its length is not in its header: convert it (ffmpeg -i a.mp3 a.flac)"
