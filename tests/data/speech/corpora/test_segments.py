import json
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from omnictl.data.audio import decoder
from omnictl.data.speech.corpora.segments import cut_segments
from omnictl.data.speech.layouts import find_speech

RATE = 8_000


@pytest.fixture
def recording(tmp_path):
    """Six seconds of noise in two channels, of which every sample differs."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (6 * RATE, 2)).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="PCM_16")
    return soundfile.read(tmp_path / "long.wav", dtype="float32")[0].mean(axis=1)


def write(folder, *rows):
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps({"audio": "long.wav", "text": "Hello.", **row}) + "\n" for row in rows))
    return path


def test_segments_have_the_samples_of_their_time(tmp_path, recording, monkeypatch):
    monkeypatch.setattr(decoder, "_BLOCK", 3_000)
    spans = [(4.0, 2.0), (0.0, 1.5), (1.0, 2.25), (0.5, 0.125), (5.5, 0.58)]
    write(tmp_path, *({"offset": offset, "duration": duration} for offset, duration in spans))
    manifest = find_speech(tmp_path)
    assert [row.id for row in manifest.rows] == ["long.wav", "long.wav#2", "long.wav#3", "long.wav#4", "long.wav#5"]
    for row, (offset, duration) in zip(manifest.rows, spans, strict=True):
        samples, rate = soundfile.read(row.audio, dtype="float32")
        expected = recording[round(offset * RATE) : round((offset + duration) * RATE)]
        assert rate == RATE
        np.testing.assert_allclose(samples, expected, atol=2**-14)


def test_a_row_without_an_offset_is_all_of_its_recording(tmp_path, recording):
    write(tmp_path, {"duration": 2.0}, {"offset": "4.5"})
    first, second = find_speech(tmp_path).rows
    assert first.audio == tmp_path.resolve() / "long.wav"
    assert soundfile.info(second.audio).frames == 1.5 * RATE


def test_segments_that_are_not_there_are_named(tmp_path, recording):
    rows = [
        {"offset": 0, "duration": 1},
        {"offset": 5, "duration": 3},
        {"offset": 2, "duration": 0},
        {"offset": -1},
        {"offset": "x"},
        {"offset": 6.02, "duration": 0.03},
        {"offset": 5.99999, "duration": 0.05},
        {"offset": 1, "duration": 0.00001},
    ]
    path = write(tmp_path, *rows)
    manifest = find_speech(tmp_path)
    assert len(manifest.rows) == 1
    assert sorted((row.where, row.message) for row in manifest.broken) == [
        (f"{path}:2", "the segment from 5 to 8 s ends behind its recording, which has 6.00 s"),
        (f"{path}:3", "the segment from 2 to 2 s is empty: offset and duration are seconds from 0 up"),
        (f"{path}:4", "the segment from -1 to 6 s is empty: offset and duration are seconds from 0 up"),
        (f"{path}:5", "the offset should be a number of seconds, found 'x'"),
        (f"{path}:6", "the segment from 6.02 to 6.05 s begins behind its recording, which has 6.00 s"),
        (f"{path}:7", "the segment from 5.99999 to 6.04999 s begins behind its recording, which has 6.00 s"),
        (f"{path}:8", "the segment from 1 to 1.00001 s is empty: it is shorter than a sample"),
    ]


def test_a_recording_that_decodes_to_fewer_samples_than_it_says(tmp_path, recording, monkeypatch):
    """As an MP3 without a Xing header may, by less than a frame."""
    whole = decoder.stream_audio

    @contextmanager
    def shorter(file, **bounds):
        with whole(file, **bounds) as (info, blocks):
            yield info, (block[: 5 * RATE] for block in blocks)

    monkeypatch.setattr(decoder, "stream_audio", shorter)
    path = write(tmp_path, {"offset": 1, "duration": 1}, {"offset": 5.5})
    manifest = find_speech(tmp_path)
    assert [soundfile.info(row.audio).frames for row in manifest.rows] == [RATE]
    message = "the segment from 5.5 s on begins behind the last sample of its recording, which has 6.00 s"
    assert [(row.where, row.message) for row in manifest.broken] == [(f"{path}:2", message)]


def test_segments_of_a_broken_recording(tmp_path):
    (tmp_path / "long.wav").write_bytes(b"RIFF")
    (tmp_path / "good.wav").touch()
    write(tmp_path, {"offset": 0, "duration": 1}, {"audio": "good.wav"})
    manifest = find_speech(tmp_path)
    assert [row.id for row in manifest.rows] == ["good.wav"]
    assert "is cut off or broken" in manifest.broken[0].message


def test_segments_are_cut_once(tmp_path, recording, monkeypatch):
    write(tmp_path, {"offset": 1, "duration": 1})
    first = find_speech(tmp_path)
    monkeypatch.setattr(decoder, "stream_audio", None)
    assert find_speech(tmp_path) == first
    assert cut_segments(first._replace(rows=())) == first._replace(rows=())
