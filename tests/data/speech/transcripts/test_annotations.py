import json
import logging

import pytest
import soundfile

from omnictl.data.inspect.text_and_speech import check_speech
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.transcripts.annotations import read_annotations
from omnictl.errors import DataError


@pytest.mark.parametrize(
    ("text", "plain", "dropped", "unknown"),
    [
        ("LORD <COMMA> BUT I'M GLAD <PERIOD>", "LORD, BUT I'M GLAD.", (), None),
        ("REALLY <QUESTIONMARK> YES <EXCLAMATIONPOINT>", "REALLY? YES!", (), None),
        ("well [laughter] yes <noise>", "well yes", ("[laughter]", "<noise>"), None),
        ("I mean <unk> said", "I mean said", (), "<unk>"),
        ("[inaudible]", "", (), "[inaudible]"),
        ("<SIL>", "", ("<SIL>",), None),
        ("3 < 4 and 5 > 2 [12] a[i]b", "3 < 4 and 5 > 2 [12] a b", ("[i]",), None),
        ("  as it is  ", "  as it is  ", (), None),
        # with times and spaces, in other languages, closed like tags: the first word decides
        ("so [inaudible 00:05:23] it", "so it", (), "[inaudible 00:05:23]"),
        ("yes [crosstalk 00:12:01] no", "yes no", ("[crosstalk 00:12:01]",), None),
        ("[ Applause ] thanks [Gelächter] [Gela\u0308chter]", "thanks", ("[ Applause ]", "[Gelächter]", "[Gela\u0308chter]"), None),
        ("[noise/] well [/noise] <noise/> yes", "well yes", ("[noise/]", "[/noise]", "<noise/>"), None),
        ("what the [ __ ] is", "what the is", (), "[ __ ]"),
        ("[SPEAKER_01] hello", "hello", ("[SPEAKER_01]",), None),
        ("in [1984] the [i+1] [x", "in [1984] the [i+1] [x", (), None),
    ],
)
def test_signs(text, plain, dropped, unknown):
    assert tuple(read_annotations(text)) == (plain, dropped, unknown)


def test_what_is_dropped_is_said_and_what_has_no_words_is_set_aside(tmp_path, caplog):
    texts = ["Well [laughter] yes.", "<SIL>", "He <unk> it.", "No [laughter].", "A <COMMA> b."]
    for number in range(len(texts)):
        (tmp_path / f"{number}.wav").touch()
    path = tmp_path / "metadata.csv"
    path.write_text("audio,text\n" + "".join(f"{number}.wav,{text}\n" for number, text in enumerate(texts)))
    with caplog.at_level(logging.INFO, logger="omnictl"):
        manifest = find_speech(tmp_path)
    assert [row.text for row in manifest.rows] == ["Well yes.", "No.", "A, b."]
    assert [(row.where, row.message) for row in manifest.broken] == [
        (f"{path}:3", "the transcript has no words, only <SIL>"),
        (f"{path}:4", "the transcript has <unk> for words that nobody wrote down"),
    ]
    assert caplog.messages == [f"{tmp_path}: signs dropped from transcripts, as they are not words: [laughter] (2)"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "<unk>"}, "the transcript has <unk> for words that nobody wrote down; 2 more are broken"),
        (
            {"offset": 500, "duration": 1500},
            "the segment from 500 to 2000 s begins behind its recording, which has 0.10 s; 2 more are broken",
        ),
    ],
)
def test_the_first_reason_is_named_where_no_row_is_left(tmp_path, fields, reason):
    """As training, a project file and `data check` say it."""
    soundfile.write(tmp_path / "a.wav", [0.1] * 1600, 16_000)
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps({"audio": "a.wav", "text": "Hello.", **fields}) + "\n" for _ in range(3)))
    calls = (lambda: open_speech(SpeechDataConfig(source=str(tmp_path))), lambda: check_speech(str(tmp_path)))
    for call in calls:
        with pytest.raises(DataError) as error:
            call()
        assert (error.value.message, error.value.where) == (f"no row of {tmp_path} can be used: {reason}", f"{path}:1")
        assert error.value.fix == "a row needs words, and an offset and a duration in seconds that lie in its recording"
