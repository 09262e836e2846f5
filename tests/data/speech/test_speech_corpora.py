"""Corpora of speech: TinyWorld's voices, and recordings in files."""

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from omnictl.config.split import Split
from omnictl.data.audio.resample import resample
from omnictl.data.manifest.source import TINYWORLD_SEED
from omnictl.data.speech import file_corpus, tinyworld
from omnictl.data.speech.corpus import BLOCK, Samples, SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.file_corpus import SpeechFiles
from omnictl.data.speech.layouts import find_speech
from omnictl.data.speech.log_mels import open_features
from omnictl.data.speech.source import open_speech
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.errors import DataError
from omnictl.nn.audio.mel import MelConfig
from omnictl.tinyworld.speech.acoustics import record
from omnictl.tinyworld.speech.espeak import Request, speak
from omnictl.tinyworld.speech.utterances import Utterance, reply, utterance
from omnictl.tinyworld.speech.voices import REPLY_VOICE

RATE = 16_000

SIZES: dict[Split, int] = {"train": 5, "val": 3, "test": 3}


def recordings(corpus: SpeechCorpus, split: Split, block: int = 0) -> list[Samples]:
    found = list(corpus.samples(split, block, RATE))
    assert all(not isinstance(each, DataError) for each in found)
    return [each for each in found if not isinstance(each, DataError)]


# TinyWorld


def test_tinyworld_says_what_the_world_says() -> None:
    corpus = TinyWorldSpeech(0, 5, 3)
    for split, count in SIZES.items():
        rows = corpus.recordings(split)
        plans = [utterance(0, split, index) for index in range(count)]
        assert [(row.text, row.speaker) for row in rows] == [(plan.text, plan.voice) for plan in plans]
        assert [row.id for row in rows] == [f"{split}/{index}" for index in range(count)]
        assert {row.audio for row in rows} == {None}
    assert corpus.recordings("test")[2].where == "tinyworld:0/test/2"
    assert not corpus.broken


def test_tinyworld_is_heard_as_it_was_recorded() -> None:
    plans = [utterance(0, "val", index) for index in range(3)]
    spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
    for heard, plan, samples in zip(recordings(TinyWorldSpeech(0, 5, 3), "val"), plans, spoken.samples, strict=True):
        clean = resample(samples.astype(np.float32) / np.float32(2**15), spoken.rate, RATE)
        assert np.array_equal(heard, record(clean, plan, RATE))
        assert 0.5 * RATE < len(heard) < 8 * RATE


def test_an_utterance_of_tinyworld_does_not_depend_on_how_many_follow() -> None:
    few, many = (recordings(TinyWorldSpeech(0, count, 2), "train") for count in (3, 9))
    assert (len(few), len(many)) == (3, 9)
    assert all(np.array_equal(one, two) for one, two in zip(few, many[:3], strict=True))


def test_blocks_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinyworld, "BLOCK", 4)
    asked: list[Sequence[Request]] = []

    def heard(requests: Sequence[Request]) -> Any:
        asked.append(requests)
        return speak(requests)

    monkeypatch.setattr(tinyworld, "speak", heard)
    corpus = TinyWorldSpeech(0, 6, 2)
    assert [len(recordings(corpus, "train", block)) for block in (0, 1)] == [4, 2]
    texts = [request.text for requests in asked for request in requests]
    assert texts == [row.text for row in corpus.recordings("train")]


def test_a_tinyworld_is_known_by_its_draw_its_sizes_and_its_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = [TinyWorldSpeech(*arguments) for arguments in ((0, 5, 3), (1, 5, 3), (0, 6, 3), (0, 5, 4))]
    assert TinyWorldSpeech(0, 5, 3).fingerprint == worlds[0].fingerprint
    assert len({world.fingerprint for world in worlds}) == 4
    for changed in ("train", "val", "test"):

        def other(seed: int, split: Split, index: int, changed: str = changed) -> Utterance:
            found = utterance(seed, split, index)
            return replace(found, pitch=found.pitch + 1) if split == changed else found

        monkeypatch.setattr(tinyworld, "utterance", other)
        assert TinyWorldSpeech(0, 5, 3).fingerprint != worlds[0].fingerprint, changed


def one_voice(seed: int, num_utterances: int, num_eval_utterances: int) -> TinyWorldSpeech:
    return TinyWorldSpeech(seed, num_utterances, num_eval_utterances, "one")


def test_one_voice_says_what_is_replied() -> None:
    corpus = one_voice(0, 5, 3)
    for split, count in SIZES.items():
        plans = [reply(0, split, index) for index in range(count)]
        assert [(row.text, row.speaker) for row in corpus.recordings(split)] == [(plan.text, REPLY_VOICE) for plan in plans]
    many = TinyWorldSpeech(0, 5, 3).recordings("train")  # of as many utterances, and yet others
    assert [row.text for row in many] == [utterance(0, "train", index).text for index in range(5)]


def test_one_voice_is_heard_as_it_was_recorded() -> None:
    plans = [reply(0, "val", index) for index in range(3)]
    spoken = speak([Request(plan.text, plan.voice, plan.rate, plan.pitch) for plan in plans])
    many = recordings(TinyWorldSpeech(0, 5, 3), "val")
    for heard, other, plan, samples in zip(recordings(one_voice(0, 5, 3), "val"), many, plans, spoken.samples, strict=True):
        clean = resample(samples.astype(np.float32) / np.float32(2**15), spoken.rate, RATE)
        assert np.array_equal(heard, record(clean, plan, RATE))
        assert not np.array_equal(heard, other)


def test_one_voice_is_known_by_its_utterances_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = one_voice(0, 5, 3).fingerprint
    assert one_voice(0, 5, 3).fingerprint == before
    assert len({before, TinyWorldSpeech(0, 5, 3).fingerprint, one_voice(1, 5, 3).fingerprint}) == 3
    monkeypatch.setattr(tinyworld, "reply", lambda *place: replace(reply(*place), rate=141))
    assert one_voice(0, 5, 3).fingerprint != before


def test_the_source_of_a_config_is_opened(tmp_path: Path) -> None:
    config = SpeechDataConfig(num_utterances=7, num_eval_utterances=2)
    assert open_speech(config) == TinyWorldSpeech(TINYWORLD_SEED, 7, 2)
    other = open_speech(config.model_copy(update={"source": "tinyworld:5"}))
    assert (other.name, other) == ("tinyworld:5", TinyWorldSpeech(5, 7, 2))
    assert open_speech(config).name == "tinyworld"
    assert open_speech(config.model_copy(update={"voices": "one"})) == one_voice(TINYWORLD_SEED, 7, 2)
    write_corpus(tmp_path, [("a.wav", "one", "train")])
    assert isinstance(open_speech(config.model_copy(update={"source": str(tmp_path)})), SpeechFiles)


# Files


def chord(rate: int, seconds: float = 1.0) -> Samples:
    """A steady tone with overtones up to 3 kHz."""
    time = np.arange(round(seconds * rate)) / rate
    waves = [0.3 / n * np.sin(2 * np.pi * 250 * n * time) for n in range(1, 13)]
    mixed: Samples = np.sum(waves, 0).astype(np.float32)
    return mixed


def write_corpus(folder: Path, rows: Sequence[tuple[str, str, str]], *, speakers: Sequence[str] = ()) -> Path:
    """A manifest of (audio, text, split); audio files that are not there yet are a chord of a second."""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "text", "split", *(["speaker"] if speakers else [])])
        for number, row in enumerate(rows):
            writer.writerow([*row, *speakers[number : number + 1]])
            if not (folder / row[0]).exists():
                soundfile.write(folder / row[0], chord(RATE), RATE)
    return folder


def files(folder: Path, **settings: Any) -> SpeechFiles:
    return SpeechFiles(find_speech(folder), SpeechDataConfig(source=str(folder), **settings))


FORMATS = [("a.wav", 16_000, 1), ("b.flac", 44_100, 2), ("c.ogg", 48_000, 1), ("d.mp3", 22_050, 2), ("e.wav", 8_000, 3)]


@pytest.fixture
def mixed(tmp_path: Path) -> SpeechFiles:
    """The same chord at five rates, in one to three channels, in four formats."""
    for name, rate, channels in FORMATS:
        soundfile.write(tmp_path / name, np.stack([chord(rate)] * channels, 1), rate)
    return files(write_corpus(tmp_path, [(name, "one", "train") for name, _, _ in FORMATS]), val_fraction=0)


def test_rates_channels_and_formats_make_no_difference(mixed: SpeechFiles, tmp_path: Path) -> None:
    assert [len(audio) for audio in recordings(mixed, "train")] == pytest.approx([RATE] * len(FORMATS), abs=2)
    store = open_features(mixed, "train", MelConfig(), tmp_path / "cache")
    first, *others = (store.features(number)[10:90] for number in range(len(FORMATS)))  # without the edges, where it is switched on
    loud = first > -8  # within 35 dB of the loudest
    assert loud.mean() > 0.2
    for (name, _, _), features in zip(FORMATS[1:], others, strict=True):
        difference = np.abs(features - first)[loud]
        is_lossy = Path(name).suffix in (".ogg", ".mp3")
        assert difference.max() < (0.6 if is_lossy else 0.05), name  # nats
        assert difference.mean() < 0.25, name  # 1 dB


def test_rows_come_back_with_their_files(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, [("a.wav", "One.", "train"), ("b.wav", "two", "test")], speakers=["ann", "bob"])
    corpus = files(folder)
    assert corpus.name == str(folder)
    (row,) = corpus.recordings("train")
    assert row == ("a.wav", "One.", "ann", f"{folder}/metadata.csv:2", folder / "a.wav")
    assert [row.id for row in corpus.recordings("test")] == ["b.wav"]


def test_files_come_in_blocks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_corpus, "BLOCK", 2)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", chord(RATE, 0.1 * (1 + number)), RATE)
    corpus = files(write_corpus(tmp_path, [(f"{number}.wav", "one", "train") for number in range(3)]), val_fraction=0)
    assert [[len(audio) for audio in recordings(corpus, "train", block)] for block in (0, 1)] == [[1600, 3200], [4800]]
    assert BLOCK > 2


def test_a_recording_that_cannot_be_read_says_why_and_the_others_follow(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("this is no audio")
    soundfile.write(tmp_path / "b.wav", chord(RATE, 2.5), RATE)
    write_corpus(tmp_path, [(name, "one", "train") for name in ("a.wav", "b.wav", "c.wav")])
    corpus = files(tmp_path, max_seconds=2, val_fraction=0)
    broken, long, good = corpus.samples("train", 0, RATE)
    assert isinstance(broken, DataError)
    assert "is not a WAV, FLAC, OGG, MP3, M4A or WebM file" in broken.message
    assert isinstance(long, DataError)
    assert "at most 2 s were expected" in long.message
    assert not isinstance(good, DataError)
    assert len(good) == RATE


ROWS = [(f"{number}.wav", "one", "train") for number in range(4)] + [("v.wav", "two", "val"), ("t.wav", "three", "test")]


def changed_text(folder: Path) -> SpeechFiles:
    return files(write_corpus(folder, [("0.wav", "won", "train"), *ROWS[1:]]))


def changed_split(folder: Path) -> SpeechFiles:
    return files(write_corpus(folder, [("0.wav", "one", "val"), *ROWS[1:]]))


def changed_order(folder: Path) -> SpeechFiles:
    return files(write_corpus(folder, [ROWS[1], ROWS[0], *ROWS[2:]]))


def changed_speaker(folder: Path) -> SpeechFiles:
    return files(write_corpus(folder, ROWS, speakers=["ann"] * 6))


def changed_audio(folder: Path) -> SpeechFiles:
    """By as many bytes, a moment later."""
    before = (folder / "t.wav").stat()
    soundfile.write(folder / "t.wav", -chord(RATE), RATE)
    os.utime(folder / "t.wav", ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    return files(folder)


def changed_length(folder: Path) -> SpeechFiles:
    before = (folder / "t.wav").stat()
    soundfile.write(folder / "t.wav", chord(RATE, 0.5), RATE)
    os.utime(folder / "t.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    return files(folder)


def changed_limit(folder: Path) -> SpeechFiles:
    return files(folder, max_seconds=5)


@pytest.mark.parametrize(
    "change",
    [changed_text, changed_split, changed_order, changed_speaker, changed_audio, changed_length, changed_limit],
)
def test_the_fingerprint_changes_with_what_can_be_heard_or_read(change: Any, tmp_path: Path) -> None:
    before = files(write_corpus(tmp_path, ROWS)).fingerprint
    assert files(tmp_path).fingerprint == before
    assert change(tmp_path).fingerprint != before


def test_the_fingerprint_does_not_change_with_what_makes_no_difference(tmp_path: Path) -> None:
    before = files(write_corpus(tmp_path, ROWS)).fingerprint
    (tmp_path / "more.txt").write_text("not part of it")
    assert files(tmp_path, speeds=(1.0, 1.1), time_mask=0.0, val_fraction=0.3).fingerprint == before  # its rows name their splits


@pytest.mark.parametrize(
    ("rows", "settings", "split", "message", "fix"),
    [
        (
            ROWS[:4],
            {"val_fraction": 0},
            "val",
            "(4, val 0, test 0 utterances)",
            "give more recordings, or --set data.val_fraction=0.1",
        ),
        (ROWS[:5], {}, "test", "(4, val 1, test 0 utterances)", "give more recordings, or --set data.test_fraction=0.1"),
        (
            ROWS[4:],
            {},
            "train",
            "(0, val 1, test 1 utterances)",
            "all rows are named val or test: give others to train on, or judge a trained run by these "
            "(omnictl eval asr --data ... --split val)",
        ),
    ],
)
def test_an_empty_split_is_an_error(
    rows: Sequence[tuple[str, str, str]], settings: dict[str, Any], split: Split, message: str, fix: str, tmp_path: Path
) -> None:
    corpus = files(write_corpus(tmp_path, rows), **settings)
    with pytest.raises(DataError) as caught:
        corpus.recordings(split)
    assert caught.value.message == f"the {split} split of {tmp_path} is empty {message.replace('(', '(train ')}"
    assert (caught.value.where, caught.value.fix) == (str(tmp_path), fix)


def test_no_speaker_is_left_to_train_on(tmp_path: Path) -> None:
    corpus = files(write_corpus(tmp_path, ROWS[:2], speakers=["ann", "ann"]), holdout_speakers=["ann"])
    with pytest.raises(DataError) as caught:
        corpus.recordings("train")
    assert caught.value.fix == "give recordings of other speakers, too, or name fewer in data.holdout_speakers"


def test_broken_rows_are_kept_for_the_report(tmp_path: Path) -> None:
    write_corpus(tmp_path, ROWS)
    with (tmp_path / "metadata.csv").open("a", encoding="utf-8") as file:
        file.write("gone.wav,four,train\n0.wav,,train\n")
    broken = files(tmp_path).broken
    assert [row.where for row in broken] == [f"{tmp_path}/metadata.csv:8", f"{tmp_path}/metadata.csv:9"]


@pytest.mark.parametrize("speed", [0, 0.4, 2.1, -1])
def test_speeds_have_bounds(speed):
    with pytest.raises(ValidationError, match=r"should be (greater|less) than or equal to"):
        SpeechDataConfig(speeds=(1.0, speed))
