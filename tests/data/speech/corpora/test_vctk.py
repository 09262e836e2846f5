import logging

from omnictl.data.speech.layouts import find_speech


def test_vctk(tmp_path, caplog):
    for name in ("p225_001_mic1.flac", "p225_001_mic2.flac", "p225_002_mic2.flac", "p225_003_mic1.flac", "log.txt"):
        (tmp_path / "wav48_silence_trimmed" / "p225").mkdir(parents=True, exist_ok=True)
        (tmp_path / "wav48_silence_trimmed" / "p225" / name).touch()
    (tmp_path / "txt" / "p225").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / "txt" / "p225" / f"p225_00{number}.txt").write_text(f"Sentence {number}.\n")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        manifest = find_speech(tmp_path)
    assert [(row.audio.name, row.text, row.speaker) for row in manifest.rows] == [
        ("p225_001_mic1.flac", "Sentence 1.", "p225"),
        ("p225_002_mic2.flac", "Sentence 2.", "p225"),
    ]
    assert [row.message for row in manifest.broken] == ["there is no text of it: txt/p225/p225_003.txt"]
    assert "1 recordings of a second microphone are passed over" in caplog.text


def test_the_older_release(tmp_path):
    (tmp_path / "wav48" / "p225").mkdir(parents=True)
    (tmp_path / "wav48" / "p225" / "p225_001.wav").touch()
    (tmp_path / "txt" / "p225").mkdir(parents=True)
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_text("Please call Stella.")
    assert [row.text for row in find_speech(tmp_path).rows] == ["Please call Stella."]
