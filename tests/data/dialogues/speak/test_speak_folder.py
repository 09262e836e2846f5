import csv
import errno
import json
import logging
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from spoken_rows import SECONDS_A_CHARACTER, Tones, assistant, user, write_rows

from omnictl.data.audio.decoder import read_audio
from omnictl.data.dialogues.manifest import MediaFile, read_dialogues
from omnictl.data.dialogues.speak import folder as written_folder
from omnictl.data.dialogues.speak.folder import SpeakSettings, speak_dialogues
from omnictl.data.dialogues.speak.questions import Cast
from omnictl.data.dialogues.speak.voices import choose_voices, say_with_espeak
from omnictl.data.export import encode_flac
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.source import open_speech
from omnictl.errors import DataError, DiskFull, OmniError, UsageError

LONG = " ".join(["word"] * 140)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Dialogues of all kinds; not JSON of ours alone."""
    folder = write_rows(
        tmp_path / "in",
        {"messages": [user("images/a.png", "What is it?"), assistant("A cat.")], "split": "train", "id": "one"},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                user("b.png", "Dr. Who?", "images/b.png", "Or this?"),
                assistant("Yes. No."),
                user("`x`?"),
                assistant("It is x."),
            ],
            "task": "two",
            "split": "test",
        },
        {"messages": [user(LONG), assistant("Long.")], "split": "val"},
    )
    (folder / "heard.flac").write_bytes(encode_flac(np.zeros(1600, np.float32)))
    heard = {"role": "assistant", "content": [{"type": "text", "text": "I hear."}, {"type": "audio", "audio": "heard.flac"}]}
    beside = {"messages": [user("heard.flac", "What do you hear?"), heard], "split": "train"}
    llava = {
        "conversations": [{"from": "human", "value": "<image>\nAnd this?"}, {"from": "gpt", "value": "A cat."}],
        "image": "b.png",
    }
    with (folder / "dialogues.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in (beside, llava))
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_questions_become_recordings_in_the_places_of_their_texts(source: Path, tmp_path: Path) -> None:
    say = Tones()
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(cast=Cast(("ada",), ())), say)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audio", "dialogues.jsonl", "images", "left_written.csv", "questions.csv", "recordings",
    ]  # fmt: skip
    before, after = read_dialogues(source).rows, read_dialogues(tmp_path / "out").rows
    assert not read_dialogues(tmp_path / "out").broken
    assert [(row.id, row.task, row.split) for row in after] == [
        ("one", "dialogue", "train"), ("line 2", "two", "test"), ("line 3", "dialogue", "val"), ("line 4", "dialogue", "train"),
        ("line 5", "dialogue", "train"),
    ]  # fmt: skip
    kinds = [[part.kind if isinstance(part, MediaFile) else part for part in row.messages[0].parts] for row in after]
    assert kinds[0] == kinds[4] == ["image", "audio"]
    assert [part.kind if isinstance(part, MediaFile) else part for part in after[1].messages[1].parts] == ["image", "audio"] * 2
    assert kinds[1:4] == [["Be brief."], [LONG], ["audio", "What do you hear?"]]
    for old, new in zip(before, after, strict=True):
        assert [m.parts for m in new.messages if m.role != "user"] == [m.parts for m in old.messages if m.role != "user"]
        images = [[media.file.read_bytes() for media in row.media if media.kind == "image"] for row in (old, new)]
        assert images[0] == images[1]
    assert after[3].messages[1].spoken[0].file.read_bytes() == (source / "heard.flac").read_bytes()
    assert (tmp_path / "out/recordings/heard.flac").is_file()
    assert {path.name for path in (tmp_path / "out/images").glob("**/*.png")} == {"a.png", "b.png"}
    assert (written.questions, written.spoken, written.voices) == (6, 3, {"ada": 3})
    assert written.dialogues == {"train": 3, "val": 1, "test": 1}
    assert (written.replies, written.reply_seconds, written.broken) == (0, 0.0, ())


def test_recordings_say_what_the_list_of_them_says(source: Path, tmp_path: Path) -> None:
    say = Tones()
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), say)
    rows = table(tmp_path / "out/questions.csv")
    assert [(row["audio"], row["text"], row["split"]) for row in rows] == [
        ("audio/train_000000.flac", "What is it?", "train"),
        ("audio/test_000001.flac", "Doctor Who?", "test"),
        ("audio/test_000001_2.flac", "Or this?", "test"),
        ("audio/train_000002.flac", "And this?", "train"),
    ]
    assert [row["speaker"] for row in rows] == [plan.voice for plan in say.said if plan.text != LONG]
    lengths = [len(row["text"]) * SECONDS_A_CHARACTER for row in rows]
    for row, seconds in zip(rows, lengths, strict=True):
        info = soundfile.info(tmp_path / "out" / row["audio"])
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", 16_000, 1)
        assert info.duration == pytest.approx(seconds, abs=1e-4)
    assert written.seconds == pytest.approx(sum(lengths), abs=1e-3)
    files = {row["audio"] for row in rows}
    assert files == {f"audio/{path.name}" for path in (tmp_path / "out/audio").iterdir()}
    speech = open_speech(SpeechDataConfig(source=str(tmp_path / "out/questions.csv")))
    assert [recording.text for recording in speech.recordings("test")] == ["Doctor Who?", "Or this?"]


def test_what_stays_written_is_named(source: Path, tmp_path: Path) -> None:
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), Tones())
    file = source / "dialogues.jsonl"
    expected = [
        (f"{file}:2", "signs that have no reading: `", "`x`?"),
        (f"{file}:4", "it stands beside a recording", "What do you hear?"),
        (f"{file}:3", "it takes 35 s to say, at most 30 s are trained on", LONG),
    ]
    assert [tuple(text) for text in written.left_written] == expected
    assert [tuple(row.values()) for row in table(tmp_path / "out/left_written.csv")] == expected


def test_replies_are_a_corpus_of_one_voice(source: Path, tmp_path: Path) -> None:
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(reply_voice="eve"), Tones())
    rows = table(tmp_path / "out/replies/metadata.csv")
    assert [(row["text"], row["split"]) for row in rows] == [
        ("A cat.", "train"), ("I hear.", "train"), ("Long.", "val"), ("Yes.", "test"), ("No.", "test"), ("It is x.", "test"),
    ]  # fmt: skip
    assert {row["speaker"] for row in rows} == {"eve"}
    assert written.replies == len(rows) == 6
    speech = open_speech(SpeechDataConfig(source=str(tmp_path / "out/replies")))
    assert [len(speech.recordings(split)) for split in ("train", "val", "test")] == [2, 1, 3]


def test_a_share_leaves_the_other_questions_written(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Is it {chr(97 + n)}?"), assistant("Yes.")], "split": "train"} for n in range(20)]
    written = speak_dialogues(str(write_rows(tmp_path / "in", *rows)), tmp_path / "out", SpeakSettings(share=0.5), Tones())
    after = read_dialogues(tmp_path / "out").rows
    assert 0 < written.spoken < written.questions == 20
    assert sum(isinstance(row.messages[0].parts[0], MediaFile) for row in after) == written.spoken
    assert not written.left_written


def test_rows_without_splits_keep_those_that_training_gives_them(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"{n * 'a '}what?"), assistant("Yes.")]} for n in range(60)]
    source = write_rows(tmp_path / "in", *rows)
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), Tones())
    assert written.dialogues == {"train": 54, "val": 3, "test": 3}
    assert [row.split for row in read_dialogues(tmp_path / "out").rows].count("test") == 3


def test_images_of_one_name_in_two_folders_stay_two(tmp_path: Path) -> None:
    rows = [{"messages": [user(image, "What?"), assistant("It.")]} for image in ("a.png", "images/a.png", "b/a.png")]
    source = write_rows(tmp_path / "in", *rows)
    Image.new("RGB", (20, 20), (0, 0, 255)).save(source / "a.png")
    speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), Tones())
    before, after = ([row.media[0].file.read_bytes() for row in read_dialogues(path).rows] for path in (source, tmp_path / "out"))
    assert after == before
    assert len(list((tmp_path / "out/images").glob("**/*.png"))) == 3


def test_broken_rows_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [{"messages": [user(f"Is it {n * 'a'}?"), assistant("Yes.")]} for n in range(30)]
    source = write_rows(tmp_path / "in", *rows)
    with (source / "dialogues.jsonl").open("a") as file:
        file.write('{"messages": []}\n')
    written = speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), Tones())
    assert [row.message for row in written.broken] == ["messages should be a list of messages, found an empty list"]
    with (source / "dialogues.jsonl").open("a") as file:
        file.write('{"messages": []}\n')
    with pytest.raises(DataError, match="2 of 32 rows cannot be read, allowed are 5%") as error:
        speak_dialogues(str(source), tmp_path / "again", SpeakSettings(), Tones())
    assert error.value.fix == f"see all of them with `omnictl data check {source}`; mend or remove them"


def test_the_same_dialogues_are_said_the_same_by_espeak(tmp_path: Path) -> None:
    rows = [{"messages": [user(text), assistant("Yes.")], "split": "train"} for text in ("Is it red?", "Where is the small cat?")]
    source = write_rows(tmp_path / "in", *rows)
    for out in ("one", "two"):
        speak_dialogues(str(source), tmp_path / out, SpeakSettings(cast=choose_voices(["en-us"])), say_with_espeak)
    files = sorted((tmp_path / "one").glob("**/*.*"))
    assert len(files) == 5
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    short, long = (read_audio(file, rate=16_000) for file in sorted((tmp_path / "one/audio").iterdir()))
    assert 8_000 < len(short) < len(long) < 48_000
    assert np.sqrt(np.mean(long**2)) > 0.01


@pytest.mark.parametrize(
    ("name", "known"),
    [("en-us", True), ("en-gb-x-rp+f3", True), ("en+whisper", True), ("de", False), ("en-us+f9", False), ("+f1", False)],
)
def test_voices_by_name(name: str, known: bool) -> None:
    if known:
        assert choose_voices(["en-us", name, name]).voices == tuple(dict.fromkeys(["en-us", name]))
        return
    with pytest.raises(UsageError, match="there is no English voice") as error:
        choose_voices([name])
    (suggested,) = [word for word in error.value.fix.split() if word.startswith("en-us,")]
    assert choose_voices(suggested.split(",")).voices == ("en-us", "en-gb-x-rp+f2")


def one_row(text: str) -> dict[str, object]:
    return {"messages": [user(text), assistant("Yes.")], "split": "train"}


@pytest.mark.parametrize(
    ("rows", "share", "message", "where"),
    [
        (
            [one_row("你好")],
            1.0,
            "no question of .* can be said: letters that the voices have no sound for: 你好",
            "dialogues.jsonl:1",
        ),
        ([one_row("What?")], 0.0, "a share of 0 of the questions of .* is none", "--share"),
        ([{"messages": [user("a.png", "b.png"), assistant("A.")]}], 1.0, "nobody asks anything in words in", "in"),
    ],
)
def test_dialogues_of_which_nothing_can_be_said(
    tmp_path: Path, rows: list[dict[str, object]], share: float, message: str, where: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        speak_dialogues(str(write_rows(tmp_path / "in", *rows)), tmp_path / "out", SpeakSettings(share=share), Tones())
    assert str(error.value.where).endswith(where)
    assert not (tmp_path / "out").exists()


def test_tinyworld_is_spoken_already(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spoken already") as error:
        speak_dialogues("tinyworld", tmp_path / "out", SpeakSettings(), Tones())
    assert error.value.fix == f"write them out as they are: omnictl data export --kind dialogues --out {tmp_path / 'out'}"


def test_a_folder_with_something_in_it_is_refused_before_anything_is_said(source: Path, tmp_path: Path) -> None:
    say = Tones()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something already"):
        speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), say)
    assert not say.said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_what_does_not_fit_is_refused_before_anything_is_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say = Tones()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(written_folder.shutil, "disk_usage", lambda _: usage(0, 0, 1_000_000))
    with pytest.raises(DiskFull, match=rf"take about 2 MB, 1 MB are free in {tmp_path}$") as error:
        speak_dialogues(str(source), tmp_path / "deep" / "out", SpeakSettings(), say)
    assert "--share" in error.value.fix
    assert not say.said


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fails", "kind"), [(full, DiskFull), (interrupted, KeyboardInterrupt)])
def test_what_fails_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: object, kind: type[BaseException]
) -> None:
    monkeypatch.setattr(written_folder, "flush", fails)
    with pytest.raises(kind) as error:
        speak_dialogues(str(source), tmp_path / "out", SpeakSettings(), Tones())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    if isinstance(error.value, OmniError):
        assert error.value.fix == "free some space, name a folder elsewhere, or write fewer with --share"


def test_progress_is_logged(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("omnictl.progress.SECONDS_BETWEEN_NOTES", -1.0)
    with caplog.at_level(logging.INFO, logger="omnictl"):
        speak_dialogues(str(source), tmp_path / "out", SpeakSettings(reply_voice="eve"), Tones())
    for doing, total in (("speaking questions", 4), ("speaking replies", 6), ("writing dialogues", 5)):
        assert f"{doing}: {total} of {total}, 0 s left" in caplog.messages


def test_pairs_of_replies_stay_pairs(tmp_path: Path) -> None:
    """A worse reply, for `sft --objective dpo`."""
    rows = [{"messages": [user(f"What is {number}?"), assistant("A number.")], "rejected": "A cat."} for number in range(30)]
    del rows[0]["rejected"]
    folder = write_rows(tmp_path / "in", *rows)
    speak_dialogues(str(folder), tmp_path / "out", SpeakSettings(), Tones())
    before, after = ({row.id: row.rejected for row in read_dialogues(path).rows} for path in (folder, tmp_path / "out"))
    assert after == before
    assert set(after.values()) == {None, "A cat."}
