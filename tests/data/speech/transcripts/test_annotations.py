import logging

import pytest

from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.transcripts.annotations import read_annotations


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
