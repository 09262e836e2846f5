import json
import logging

import numpy as np
import pytest
import soundfile
from corpus_files import append_row, kinds_and_places

from omnictl import progress
from omnictl.data.inspect import audio_files
from omnictl.data.inspect.text_and_speech import check_speech, check_text, measure_speech
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import find_infeasible, open_set
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig


class Corpus:
    """A manifest that grows row by row, and its recordings: noise, no two alike."""

    def __init__(self, folder):
        self.folder, self.manifest = folder, folder / "metadata.jsonl"
        self._rng = np.random.default_rng(0)
        self._num_rows = 0

    def __str__(self):
        return str(self.folder)

    def add(self, text="hello there", *, seconds=1.0, rate=16_000, channels=1, name=None, samples=None, **fields):
        """Writes a recording unless it is there, and its row, of the training split if none is named; returns where it stands."""
        self._num_rows += 1
        path = self.folder / (name or f"{self._num_rows}.wav")
        if not path.exists():
            noise = self._rng.integers(-9000, 9000, (round(seconds * rate), channels), dtype=np.int16)
            soundfile.write(path, noise if samples is None else samples, rate, subtype="PCM_16")
        return self.write({"audio": path.name, "text": text, "split": "train", **fields})

    def write(self, row):
        return append_row(self.manifest, row)


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


# Speech


def test_how_much_there_is(corpus):
    corpus.add("one two", seconds=1, speaker="ada", split="train")
    corpus.add("three four", seconds=2, rate=8_000, channels=2, speaker="bo", split="train")
    corpus.add("five", seconds=0.5, speaker="ada", split="val")
    corpus.add("One, two!", seconds=1.5, split="test")
    report = check_speech(str(corpus))
    assert (report.broken, report.warnings, report.error()) == ([], [], None)
    assert (report.kind, report.unit, report.total, report.num_broken) == ("speech", "rows", 4, 0)
    assert report.summary == {
        "splits": {
            "train": {"utterances": 2, "hours": 3 / 3600, "speakers": 2},
            "val": {"utterances": 1, "hours": 0.5 / 3600, "speakers": 1},
            "test": {"utterances": 1, "hours": 1.5 / 3600, "speakers": 0},
        },
        "seconds_min": 0.5,
        "seconds_median": 1.25,
        "seconds_p95": pytest.approx(1.925),
        "seconds_max": 2.0,
        "characters_per_second_min": pytest.approx(7 / 1.5),
        "characters_per_second_median": 6.0,
        "characters_per_second_p95": pytest.approx(7.85),
        "characters_per_second_max": 8.0,
        "utterances_by_rate_hz": {"16000": 3, "8000": 1},
        "utterances_by_channels": {"1": 3, "2": 1},
        "utterances_by_speaker": {"ada": 2, "bo": 1},
        "texts_in_train_and_test": 1,
    }


def test_each_broken_row_is_named(corpus):
    corpus.add()
    places = [
        corpus.write({"audio": "nowhere.wav", "text": "hello"}),
        corpus.add("привет"),
        corpus.add("?!"),
        corpus.add("far too many words for so little audio", seconds=0.3),
    ]
    (corpus.folder / "cut.wav").write_bytes((corpus.folder / "1.wav").read_bytes()[:9_000])
    places.append(corpus.write({"audio": "cut.wav", "text": "hello there"}))
    report = check_speech(str(corpus))
    missing, cut, foreign, wordless, short = report.broken
    assert kinds_and_places(report.broken) == [
        ("row", places[0]),
        ("audio", places[4]),
        ("transcript", places[1]),
        ("transcript", places[2]),
        ("infeasible_50hz", places[3]),
    ]
    assert missing.message == f"no such audio file: {corpus.folder / 'nowhere.wav'}"
    assert (cut.id, cut.message) == (
        "cut.wav",
        f"{corpus.folder / 'cut.wav'} is cut off: its samples should take 32,000 bytes, 8,956 are there",
    )
    assert foreign.message == "the transcript has characters outside the alphabet: веипрт (targets.kind=chars spells any)"
    assert wordless.message == "the transcript '?!' has no words"
    assert short.message == "too short for its transcript: 16 steps at 50 Hz, CTC needs 40"
    assert (report.total, report.num_broken) == (6, 5)
    assert kinds_and_places(report.warnings) == [("rate", places[3])]


def test_damage_that_only_decoding_shows(corpus):
    corpus.add()
    where = corpus.add(name="damaged.flac")
    data = bytearray((corpus.folder / "damaged.flac").read_bytes())
    data[len(data) // 2] ^= 0x55
    (corpus.folder / "damaged.flac").write_bytes(data)
    assert kinds_and_places(check_speech(str(corpus)).broken) == [("audio", where)]
    assert measure_speech(str(corpus)).broken == []


def test_a_row_with_two_problems_is_one_broken_row(corpus):
    corpus.add()
    (corpus.folder / "empty.wav").write_bytes(b"")
    corpus.write({"audio": "empty.wav", "text": "1 ≠ ж"})
    report = check_speech(str(corpus))
    assert [problem.kind for problem in report.broken] == ["audio", "transcript"]
    assert report.num_broken == 1


def test_the_error_names_the_first_and_counts_all(corpus):
    corpus.add()
    for number in range(7):
        corpus.write({"audio": f"{number}.mp3", "text": "hello"})
    error = check_speech(str(corpus)).error()
    first, *shown, last = error.message.splitlines()
    assert first == "7 of 8 rows are broken:"
    assert shown == [f"{corpus.manifest}:{n + 2}: no such audio file: {corpus.folder / f'{n}.mp3'}" for n in range(5)]
    assert last == "… and 2 more"
    assert (error.where, error.exit_code) == (str(corpus), 3)
    assert (
        error.fix == "mend these rows or take them out; training sets them aside, and refuses if they are more than data.max_broken"
    )


def test_what_is_too_short_for_25_hz_is_a_warning(corpus):
    corpus.add("a" + "bc" * 12, seconds=1.0)  # 25 characters in 26 steps
    where = corpus.add("a" + "bc" * 13, seconds=1.0)  # 27
    doubled = corpus.add("aab" * 7, seconds=1.0)  # 21, and a blank in each pair
    report = check_speech(str(corpus))
    assert report.broken == []
    tight = [problem for problem in report.warnings if problem.kind == "infeasible_25hz"]
    assert [problem.where for problem in tight] == [where, doubled]
    assert tight[0].message == "too short for its transcript: 26 steps at 25 Hz, CTC needs 27"
    assert tight[1].message == "too short for its transcript: 26 steps at 25 Hz, CTC needs 28"


@pytest.mark.parametrize("rate", [16_000, 8_000, 22_050, 44_100])
def test_infeasible_is_what_training_sets_aside(corpus, tmp_path_factory, rate):
    """Around the border, to the sample."""
    corpus.add(split="val")
    for number in range(40):
        corpus.add("ab" * (3 + number // 8), seconds=0.2 + number * 0.0083, rate=rate)
    speech = open_speech(SpeechDataConfig(source=str(corpus)))
    found = open_set(speech, "train", MelConfig(), CharacterTargets(), tmp_path_factory.mktemp("cache"))
    report = check_speech(str(corpus))
    for emissions, problems in ((1, [*report.broken, *report.warnings]), (2, report.broken)):
        expected = {(found.recordings[i].where, why) for i, why in find_infeasible(found, emissions, MelConfig()).items()}
        hertz = f" {25 * emissions} Hz"
        assert {(each.where, each.message) for each in problems if hertz in each.message} <= expected
        assert {each.where for each in problems if each.kind.startswith("infeasible")} == {where for where, _ in expected}


def test_odd_rates(corpus):
    corpus.add("hello there", seconds=1.0)
    slow = corpus.add("hello there", seconds=6.0)
    fast = corpus.add("a word or two more than one can say", seconds=1.2)
    warnings = [problem for problem in check_speech(str(corpus)).warnings if problem.kind == "rate"]
    assert [(problem.where, problem.message) for problem in warnings] == [
        (slow, "1.8 characters a second: does the transcript lack words, or is the recording mostly silence?"),
        (fast, "29.2 characters a second: is the transcript that of another recording, or the recording cut off?"),
    ]


def test_long_recordings(corpus):
    where = corpus.add("word " * 30, seconds=31, rate=8_000)
    (warning,) = check_speech(str(corpus)).warnings
    assert (warning.kind, warning.where) == ("long", where)
    assert warning.message == "31.0 s long: training sets it aside unless data.max_seconds is more than 30"


def test_a_recording_in_two_splits_whatever_its_file(corpus):
    samples = np.random.default_rng(1).integers(-9000, 9000, 16_000, dtype=np.int16)
    test = corpus.add(name="a.wav", samples=samples, split="test")
    train = corpus.add(name="b.flac", samples=samples, split="train")
    corpus.add(name="b.flac", split="train")
    val = corpus.add(name="b.flac", split="val")
    warnings = check_speech(str(corpus)).warnings
    assert kinds_and_places(warnings) == [("duplicate", val), ("duplicate", test)]
    assert warnings[1].message == f"the same recording is in the train split, this one in test: {train}"


def test_splits_are_those_of_training(corpus):
    for number in range(60):
        corpus.add(f"hello {'you ' * number}", seconds=0.5, speaker="abc"[number % 3], split=None)
    splits = check_speech(str(corpus)).summary["splits"]
    speech = open_speech(SpeechDataConfig(source=str(corpus)))
    assert [splits[split]["utterances"] for split in splits] == [len(speech.recordings(split)) for split in splits]


def test_a_limit_for_each_split(corpus):
    for split in ("train", "val", "test"):
        for _ in range(3):
            corpus.add(seconds=0.6, split=split)
    corpus.write({"audio": "nowhere.wav", "text": "hello"})
    report = check_speech(str(corpus), limit=2)
    assert [size["utterances"] for size in report.summary["splits"].values()] == [2, 2, 2]
    assert (report.total, report.num_broken) == (7, 1)


def test_nothing_but_broken_recordings(corpus):
    corpus.add(name="one.wav")
    (corpus.folder / "one.wav").write_bytes(b"RIFF")
    report = check_speech(str(corpus))
    assert (report.total, report.num_broken) == (1, 1)
    assert "seconds_min" not in report.summary


def test_headers_say_the_same_without_decoding(corpus, monkeypatch):
    for number, text in enumerate(("one two", "three", "four five six")):
        corpus.add(text, seconds=0.7 + number, rate=8_000 * (number + 1), split="train")
    (corpus.folder / "empty.wav").write_bytes(b"")
    corpus.write({"audio": "empty.wav", "text": "seven"})
    checked = check_speech(str(corpus))
    monkeypatch.delattr(audio_files, "read_audio")
    measured = measure_speech(str(corpus))
    assert measured.summary == checked.summary
    assert (measured.total, measured.num_broken, measured.warnings) == (4, 1, ())


def test_tinyworld_is_spoken():
    report = check_speech("tinyworld:7", limit=3)
    world = TinyWorldSpeech(7, 3, 3)
    seconds = [len(audio) / 16_000 for split in ("train", "val", "test") for audio in world.samples(split, 0, 16_000)]
    assert (report.source, report.total, report.broken) == ("tinyworld:7", 9, [])
    assert (report.summary["seconds_min"], report.summary["seconds_max"]) == (min(seconds), max(seconds))
    assert report.summary["utterances_by_rate_hz"] == {"16000": 9}
    assert sum(report.summary["utterances_by_speaker"].values()) == 9


def test_progress_is_told(corpus, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_NOTES", -1.0)
    corpus.add()
    corpus.add()
    with caplog.at_level(logging.INFO, logger="omnictl"):
        check_speech(str(corpus))
    assert [record.message for record in caplog.records] == [f"checking recordings: {number} of 2, 0 s left" for number in (1, 2)]


# Text


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_how_much_text_there_is(tmp_path):
    rows = [{"text": f"größe {number}", "split": split} for split in ("train", "val", "test") for number in range(5)]
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows, {"text": "more", "split": "train"}])
    report = check_text(str(path))
    assert (report.kind, report.unit, report.total, report.error()) == ("text", "files", 1, None)
    assert report.summary == {
        "splits": {
            "train": {"documents": 6, "characters": 39, "bytes": 49},
            "val": {"documents": 5, "characters": 35, "bytes": 45},
            "test": {"documents": 5, "characters": 35, "bytes": 45},
        }
    }


def test_text_splits_are_those_of_training(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": f"document {number}"} for number in range(100)])
    corpus = open_corpus(TextDataConfig(source=str(path)))
    sizes = check_text(str(path)).summary["splits"]
    assert {split: size["documents"] for split, size in sizes.items()} == {
        split: len(list(corpus.documents(split))) for split in ("train", "val", "test")
    }


def test_an_empty_split_is_no_problem(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "exam", "split": "test"}])
    report = check_text(str(path))
    assert report.error() is None
    assert [size["documents"] for size in report.summary["splits"].values()] == [0, 0, 1]


def test_each_broken_file_is_named(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "fine"}, {"txt": "not"}])
    (tmp_path / "b.txt").write_bytes(b"fine\n\xff\n")
    (tmp_path / "c.txt").write_text("fine")
    report = check_text(str(tmp_path))
    assert [(problem.kind, problem.where) for problem in report.broken] == [
        ("file", f"{tmp_path}/a.jsonl:2"),
        ("file", f"{tmp_path}/b.txt:2"),
    ]
    error = report.error()
    assert error.message == (
        "2 of 3 files are broken:\n"
        f"{tmp_path}/a.jsonl:2: no key 'text' (found 'txt')\n"
        f"{tmp_path}/b.txt:2: {tmp_path}/b.txt is not UTF-8 text: byte 0xff at offset 5"
    )
    assert error.fix == "mend these files and check again: each is read up to the first place that is broken"
    assert sum(size["characters"] for size in report.summary["splits"].values()) == 4


def test_no_whole_file_at_all(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    report = check_text(str(tmp_path))
    assert report.num_broken == 1
    assert [size["documents"] for size in report.summary["splits"].values()] == [0, 0, 0]


def test_blank_text_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="is empty: no text in it"):
        check_text(str(tmp_path / "a.txt"))


def test_other_scripts_are_checked_as_they_are_spelled(corpus):
    corpus.add("привет")
    corpus.add("мир")
    strange = corpus.add("жук", split="val")
    assert len(check_speech(str(corpus)).broken) == 3
    report = check_speech(str(corpus), targets="chars")
    assert [(problem.where, problem.message) for problem in report.broken] == [
        (strange, "the transcript has characters that no training transcript has: жку")
    ]
