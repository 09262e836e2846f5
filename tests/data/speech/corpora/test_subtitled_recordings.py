import time

import numpy as np
import pytest
import soundfile

from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.speech.corpora.subtitles import Subtitle, read_subtitles
from omnictl.data.speech.layouts import find_speech
from omnictl.errors import DataError

SRT = """1\r
00:00:00,500 --> 00:00:01,000\r
<i>Hello</i>\r
there.\r
\r
2\r
00:00:01,250 --> 00:00:02,500\r
- Good day &amp; bye. (door slams)\r
\r
3\r
00:00:02,500 --> 00:00:02,750\r
♪ ♪\r
"""
VTT = """WEBVTT

NOTE a remark

cue-1
00:00.500 --> 00:01.000 align:start
<v Anna Smith>Hello <00:00.700>there.

01:00:01.250 --> 01:00:02.500
[music]
"""


def test_srt(tmp_path):
    (tmp_path / "a.srt").write_bytes(b"\xef\xbb\xbf" + SRT.encode())
    assert list(read_subtitles(tmp_path / "a.srt")) == [
        Subtitle(2, 0.5, 1.0, "Hello there.", None),
        Subtitle(7, 1.25, 2.5, "Good day & bye.", None),
    ]


def test_vtt(tmp_path):
    (tmp_path / "a.vtt").write_text(VTT)
    assert list(read_subtitles(tmp_path / "a.vtt")) == [
        Subtitle(6, 0.5, 1.0, "Hello there.", "Anna Smith"),
        Subtitle(9, 3601.25, 3602.5, "[music]", None),
    ]


@pytest.mark.parametrize("name", ["talk.srt", "talk.en.srt"])
def test_a_long_recording_becomes_utterances(tmp_path, name):
    soundfile.write(tmp_path / "talk.wav", np.linspace(-0.5, 0.5, 3 * 8000), 8000)
    (tmp_path / name).write_text(SRT + "\n4\n00:00:02,800 --> 00:00:02,700\nBack.\n\n5\n00:00:02,900 --> 00:00:09,000\nGone.\n")
    assert find_kind(str(tmp_path)) == "speech"
    manifest = find_speech(tmp_path)
    assert [(row.id, row.text, row.where) for row in manifest.rows] == [
        ("talk.wav", "Hello there.", f"{tmp_path / name}:2"),
        ("talk.wav#2", "Good day & bye.", f"{tmp_path / name}:7"),
    ]
    assert [soundfile.info(row.audio).frames for row in manifest.rows] == [4000, 10000]
    assert sorted(row.message for row in manifest.broken) == [
        "the segment from 2.9 to 9 s ends behind its recording, which has 3.00 s",
        "the subtitle ends at 2.7 s, before it begins at 2.8 s",
    ]


@pytest.mark.parametrize(("one", "other"), [("talk.srt", "talk.vtt"), ("talk.de.srt", "talk.en.srt")])
def test_a_recording_has_one_file_of_subtitles(tmp_path, one, other):
    soundfile.write(tmp_path / "talk.wav", np.linspace(-0.5, 0.5, 3 * 8000), 8000)
    for name in (one, other):
        (tmp_path / name).write_text(SRT)
    assert find_kind(str(tmp_path)) == "speech"
    with pytest.raises(DataError) as error:
        find_speech(tmp_path)
    assert error.value.message == f"talk.wav has two files of subtitles, {one} and {other}"
    assert (error.value.where, "move the other" in error.value.fix) == (str(tmp_path / other), True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / other).rename(tmp_path / "elsewhere" / other)
    assert len(find_speech(tmp_path).rows) == 2


@pytest.mark.parametrize("times", ["0::1,5 --> 0::2,5", ":1.0 --> 2.0", "1:.5 --> 2:.5"])
def test_times_that_are_none_are_text(tmp_path, times):
    (tmp_path / "a.srt").write_text(f"{times}\nnot said\n\n0:01,0 --> 0:02,0\nsaid\n")
    assert [subtitle.text for subtitle in read_subtitles(tmp_path / "a.srt")] == ["said"]


@pytest.mark.parametrize("text", ["<v", "<v a", "<", "</", "{\\", "(", "&#9", "<v" + " " * 9, "\n-", "<v.a"])
def test_what_does_not_close_takes_no_longer(tmp_path, text):
    """Each of these would be looked for to the end of the file from each place where it begins: minutes, or an error."""
    (tmp_path / "a.srt").write_text("0:01,0 --> 0:02,0\n" + text * 30_000 + "\n")
    began = time.process_time()
    list(read_subtitles(tmp_path / "a.srt"))
    assert time.process_time() - began < 1


def test_a_character_by_a_number_of_thousands_of_digits_is_left_as_it_is(tmp_path):
    (tmp_path / "a.srt").write_text("0:01,0 --> 0:02,0\n&#" + "9" * 5_000 + "; &amp;\n")
    (subtitle,) = read_subtitles(tmp_path / "a.srt")
    assert subtitle.text == "&#" + "9" * 5_000 + "; &amp;"
