import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from omnictl import progress
from omnictl.data import export
from omnictl.data.inspect import audio_files, text_and_speech
from omnictl.data.text.tinyworld import TinyWorldText

Command = Callable[..., Any]

SPEECH_KEYS = [
    "source",
    "kind",
    "limit_per_split",
    "rows",
    "rows_broken",
    "splits",
    *(f"{what}_{which}" for what in ("seconds", "characters_per_second") for which in ("min", "median", "p95", "max")),
    "utterances_by_rate_hz",
    "utterances_by_channels",
    "utterances_by_speaker",
    "texts_in_train_and_test",
]


@pytest.fixture
def manifest(runs: Path, tmp_path: Path) -> Path:
    """Three rows of speech, the last of them broken, in the working directory."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (2, 8_000), dtype=np.int16)
    for name, samples in zip("ab", noise, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8_000, subtype="PCM_16")
    path = tmp_path / "metadata.csv"
    path.write_text("audio,text,split\na.wav,hello there,train\nb.wav,hello again,test\nc.wav,[gone],train\n")
    return path


def without_the_broken_row(manifest: Path) -> None:
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))


def test_check_of_an_audio_corpus(omnictl: Command, manifest: Path) -> None:
    without_the_broken_row(manifest)
    ended = omnictl("data", "check", "metadata.csv", "--json")
    report = ended.json
    assert (ended.code, ended.err) == (0, "")
    assert list(report) == [*SPEECH_KEYS, "broken", "warnings"]
    assert (report["source"], report["kind"], report["limit_per_split"]) == ("metadata.csv", "speech", None)
    assert (report["rows"], report["rows_broken"], report["broken"], report["warnings"]) == (2, 0, [], [])
    assert list(report["splits"]) == ["train", "val", "test"]
    assert report["splits"]["train"] == {"utterances": 1, "hours": 1 / 3600, "speakers": 0}


def test_check_of_a_broken_corpus(omnictl: Command, manifest: Path, tmp_path: Path) -> None:
    ended = omnictl("data", "check", tmp_path, "--json")
    report = ended.json
    assert ended.code == 3
    assert list(report) == [*SPEECH_KEYS, "broken", "warnings", "error"]
    assert report["broken"] == [
        {"kind": "row", "id": "c.wav", "where": f"{manifest}:4", "message": f"no such audio file: {tmp_path / 'c.wav'}"}
    ]
    error = report["error"]
    assert list(error) == ["kind", "exit_code", "where", "message", "fix"]
    assert (error["kind"], error["exit_code"], error["where"]) == ("data", 3, str(tmp_path))
    assert error["message"] == f"1 of 3 rows are broken:\n{manifest}:4: no such audio file: {tmp_path / 'c.wav'}"
    assert f"fix: {error['fix']}" in ended.err


def test_people_get_problems_a_table_and_the_error(omnictl: Command, manifest: Path) -> None:
    with manifest.open("a") as file:
        file.write("a.wav,a transcript that is too long,train\n")
    ended = omnictl("data", "check", "metadata.csv")
    assert ended.code == 3
    lines = ended.out.splitlines()
    assert lines[0].startswith("broken  metadata.csv:4: no such audio file: ")
    assert lines[1] == "warning metadata.csv:5: too short for its transcript: 26 steps at 25 Hz, CTC needs 30"
    assert lines[2].startswith("warning metadata.csv:5: 29.0 characters a second: ")
    assert "speech in metadata.csv: 4 rows, 1 of them broken" in lines
    assert "  utterances_by_rate_hz            8000 (3)" in lines
    assert ended.err.startswith("error: 1 of 4 rows are broken:\nmetadata.csv:4: no such audio file: ")
    assert "fix: mend these rows or take them out" in ended.err


def test_a_manifest_that_cannot_be_read_at_all(omnictl: Command, manifest: Path) -> None:
    manifest.write_text("path,words\na.wav,hello\n")
    ended = omnictl("data", "check", "metadata.csv", "--json")
    assert ended.code == 3
    assert ended.json["error"]["where"] == "metadata.csv:1"
    assert ended.json["error"]["fix"] == "rename the column 'path' to 'audio'"


def test_stats_leave_out_what_is_broken(omnictl: Command, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(audio_files, "read_audio")
    ended = omnictl("data", "stats", "metadata.csv", "--json")
    assert ended.code == 0
    assert list(ended.json) == SPEECH_KEYS
    assert (ended.json["rows"], ended.json["rows_broken"], ended.json["seconds_max"]) == (3, 1, 1.0)
    assert "speech in metadata.csv: 3 rows, 1 of them broken" in omnictl("data", "stats", "metadata.csv").out


def test_many_speakers_are_cut_short_for_people(omnictl: Command, manifest: Path) -> None:
    rows = [f"a.wav,hello,voice{number:02}" for number in range(20)]
    manifest.write_text("\n".join(["audio,text,speaker", *rows]))
    assert "voice11 (1) … and 8 more" in omnictl("data", "stats", "metadata.csv").out


@pytest.fixture
def photos(runs: Path, tmp_path: Path) -> Path:
    """Sixteen images in class folders, all different, in the working directory."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 20, 30, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


IMAGE_KEYS = [
    "source",
    "kind",
    "limit_per_split",
    "rows",
    "rows_broken",
    "splits",
    "labels",
    *(f"{which}_side_pixels_{what}" for which in ("shorter", "longer") for what in ("min", "median", "max")),
    "pictures_by_format",
]


def test_images(omnictl: Command, photos: Path) -> None:
    ended = omnictl("data", "check", "photos", "--json")
    report = ended.json
    assert (ended.code, ended.err) == (0, "")
    assert list(report) == [*IMAGE_KEYS, "broken", "warnings"]
    assert (report["kind"], report["rows"], report["rows_broken"], report["warnings"]) == ("images", 16, 0, [])
    assert (report["labels"], report["pictures_by_format"]) == ({"label": {"cat": 8, "dog": 8}}, {"PNG": 16})
    assert omnictl("data", "stats", "photos", "--json").json == {key: report[key] for key in IMAGE_KEYS}
    lines = omnictl("data", "stats", "photos").out.splitlines()
    assert lines[0] == "images in photos: 16 rows"
    assert "  train                            pictures 14  labelled 14  captions 0" in lines
    assert "  labels.label                     cat (8), dog (8)" in lines
    assert "  longer_side_pixels_max           30" in lines


def test_broken_images(omnictl: Command, photos: Path) -> None:
    (photos / "cat" / "0.png").write_bytes((photos / "cat" / "2.png").read_bytes()[:-20])
    (photos / "dog" / "1.png").write_bytes((photos / "cat" / "2.png").read_bytes())
    ended = omnictl("data", "check", "photos")
    assert ended.code == 3
    broken, warning, *_ = ended.out.splitlines()
    assert broken.startswith(f"broken  photos/cat/0.png: {photos}/cat/0.png is cut off")
    assert warning == "warning photos/dog/1.png: the label of this image is 'dog' here and 'cat' there: photos/cat/2.png"
    assert "images in photos: 16 rows, 1 of them broken" in ended.out
    assert ended.err.startswith("error: 1 of 16 rows are broken:\nphotos/cat/0.png: ")
    assert omnictl("data", "stats", "photos", "--json").json["rows_broken"] == 1


@pytest.mark.parametrize("command", ["check", "stats"])
def test_text(omnictl: Command, runs: Path, tmp_path: Path, prose: str, command: str) -> None:
    (tmp_path / "my.txt").write_text(prose)
    ended = omnictl("data", command, "my.txt", "--json")
    report = ended.json
    assert ended.code == 0
    assert (report["kind"], report["files"], report["files_broken"]) == ("text", 1, 0)
    assert [size["documents"] for size in report["splits"].values()] == [54, 3, 3]
    shown = omnictl("data", command, "my.txt").out
    assert "text in my.txt: 1 files" in shown
    assert f"train                            documents 54  characters {report['splits']['train']['characters']:,}  bytes" in shown


def test_broken_text(omnictl: Command, runs: Path, tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_text('{"text": "one"}\n{"text": 2}\n')
    ended = omnictl("data", "check", "my.jsonl", "--json")
    assert ended.code == 3
    assert ended.json["error"]["message"] == ("1 of 1 files are broken:\nmy.jsonl:2: 'text' should be a string, found a number")
    assert ended.json["broken"][0]["where"] == "my.jsonl:2"


@pytest.mark.parametrize(
    ("arguments", "code", "message", "fix"),
    [
        ("check gone", 3, "no such file or folder: gone", "check the path, or name tinyworld or tinyworld:SEED"),
        ("check tinywrld", 3, "no such file or folder: tinywrld", "did you mean --data tinyworld?"),
        ("check tinyworld:x", 3, "the seed of tinyworld should be a whole number", "--data tinyworld:7"),
        ("stats photo.png", 3, "photo.png is neither speech nor images nor dialogues nor text", "name a manifest, a text file,"),
        ("stats photos", 3, "photos has images in no class folder: 1.png", "move each into a folder named after its class"),
        ("check my.txt --limit 3", 2, "--limit is for recordings, images and dialogues; my.txt is text", "leave --limit out"),
        ("check my.txt --limit 0", 2, "'--limit'", "omnictl data check --help"),
        ("check my.txt --kind speech", 3, "my.txt is not a .csv, .tsv, .jsonl, .json manifest", "or a folder"),
        ("check my.txt --kind images", 3, "my.txt is not a .csv, .tsv, .jsonl, .json manifest", "or a folder"),
        ("check my.txt --kind dialogues", 3, "my.txt is not a .jsonl or .json file of dialogues", "a row is an object"),
        ("check", 2, "Missing argument 'PATH'", "omnictl data check --help"),
        ("export", 2, "Missing option '--out'", "omnictl data export --help"),
        ("export --out new --data my.txt", 2, "only TinyWorld is written out, found 'my.txt'", "leave --data out"),
        ("export --out new --kind image", 2, "'--kind'", "omnictl data export --help"),
        ("export --out new --kind images --num-eval 1", 2, "leaves none to validate on", "--num-eval 2 or more"),
        ("export --out full", 2, "full holds something already", "name a folder that is not there yet"),
    ],
)
def test_bad_input(omnictl: Command, runs: Path, tmp_path: Path, arguments: str, code: int, message: str, fix: str) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"\x89PNG")
    (tmp_path / "my.txt").write_text("some text " * 50)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    ended = omnictl("data", *arguments.split(), "--json")
    error = ended.json["error"]
    assert (ended.code, error["exit_code"]) == (code, code)
    assert message in error["message"]
    assert fix in error["fix"]
    assert not (tmp_path / "new").exists()


def test_exported_text_trains_and_checks_like_the_world(omnictl: Command, runs: Path) -> None:
    ended = omnictl("data", "export", "--data", "tinyworld:7", "--num", 200, "--num-eval", 20, "--out", "world", "--json")
    assert ended.code == 0
    assert ended.json == {
        "source": "tinyworld:7",
        "kind": "text",
        "out": "world",
        "splits": {"train": {"documents": 200}, "val": {"documents": 20}, "test": {"documents": 20}},
    }
    checked = omnictl("data", "check", "world", "--json").json
    assert [size["documents"] for size in checked["splits"].values()] == [200, 20, 20]
    assert omnictl("pretrain", "--preset", "debug", "--data", "world", "--max-steps", 1, "--json").code == 0


def test_exported_speech_is_audio(omnictl: Command, runs: Path) -> None:
    ended = omnictl("data", "export", "--kind", "speech", "--num", 5, "--num-eval", 2, "--out", "spoken")
    assert (ended.code, ended.out) == (0, "5 train, 2 val, 2 test utterances of tinyworld written to spoken\n")
    report = omnictl("data", "check", "spoken", "--json").json
    assert (report["rows"], report["rows_broken"], report["utterances_by_rate_hz"]) == (9, 0, {"16000": 9})
    world = omnictl("data", "check", "tinyworld", "--limit", 2, "--json").json
    assert (world["limit_per_split"], world["rows"]) == (2, 6)
    assert report["splits"]["test"] == world["splits"]["test"]


@pytest.mark.slow
def test_exported_images_train_and_check_like_the_world(omnictl: Command, runs: Path) -> None:
    ended = omnictl("data", "export", "--kind", "images", "--num", 200, "--num-eval", 10, "--out", "drawn", "--json")
    assert ended.json == {
        "source": "tinyworld",
        "kind": "images",
        "out": "drawn",
        "splits": {"train": {"pictures": 200}, "val": {"pictures": 5}, "test": {"pictures": 10}},
    }
    report = omnictl("data", "check", "drawn", "--json").json
    assert (report["rows"], report["rows_broken"], report["pictures_by_format"]) == (215, 0, {"PNG": 215})
    world = omnictl("data", "stats", "tinyworld", "--kind", "images", "--limit", 200, "--json").json
    assert (world["limit_per_split"], world["rows"], world["pictures_by_format"]) == (200, 600, {"drawn": 600})
    assert list(report["labels"]) == list(world["labels"])
    as_the_world = ("--set", "data.augmentation=none", "--set", 'data.top1=["shape", "colour"]')
    assert omnictl("vision", "--preset", "debug", "--data", "drawn", *as_the_world, "--max-steps", 1, "--json").code == 0


@pytest.mark.slow
def test_exported_dialogues_check_like_the_world(omnictl: Command, runs: Path) -> None:
    ended = omnictl("data", "export", "--kind", "dialogues", "--num", 13, "--num-eval", 13, "--out", "talked", "--json")
    assert ended.json == {
        "source": "tinyworld",
        "kind": "dialogues",
        "out": "talked",
        "splits": {split: {"dialogues": 13} for split in ("train", "val", "test")},
    }
    report = omnictl("data", "check", "talked", "--json").json
    assert (report["kind"], report["rows"], report["rows_broken"], report["warnings"]) == ("dialogues", 39, 0, [])
    world = omnictl("data", "stats", "tinyworld", "--kind", "dialogues", "--limit", 13, "--json").json
    assert (world["source"], world["rows"], world["limit_per_split"]) == ("tinyworld", 39, 13)
    for key in ("splits", "tasks", "messages_by_role", "characters_per_dialogue_max", "seconds_per_sound_max"):
        assert report[key] == world[key]
    assert (report["spoken_replies"], world["spoken_replies"]) == (39, 0)
    lines = omnictl("data", "stats", "talked").out.splitlines()
    assert lines[0] == "dialogues in talked: 39 rows"
    assert "  tasks.image_colour               train (1), val (1), test (1)" in lines


def test_broken_dialogues(omnictl: Command, runs: Path, tmp_path: Path) -> None:
    said = '{"role": "assistant", "content": "Yes."}'
    rows = (f'{{"messages": [{{"role": "user", "content": {content}}}, {said}]}}\n' for content in ('"What?"', "[]"))
    (tmp_path / "my.jsonl").write_text("".join(rows))
    ended = omnictl("data", "check", "my.jsonl", "--json")
    assert ended.code == 3
    assert ended.json["broken"] == [
        {"kind": "row", "id": "line 2", "where": "my.jsonl:2", "message": "the content of message 1 is an empty list"}
    ]
    assert omnictl("data", "stats", "my.jsonl", "--json").json["rows_broken"] == 1


def test_the_kind_can_be_given(omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_and_speech, "open_corpus", lambda config: TinyWorldText(3, 30, 10))  # the usual 42,000 take a while
    report = omnictl("data", "stats", "tinyworld:3", "--kind", "text", "--json").json
    assert (report["source"], report["kind"], report["files"]) == ("tinyworld:3", "text", 0)
    assert [size["documents"] for size in report["splits"].values()] == [30, 10, 10]


def test_a_full_disk(omnictl: Command, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "flush", full)
    ended = omnictl("data", "export", "--num", 5, "--num-eval", 2, "--out", "world", "--json")
    assert (ended.code, ended.json["error"]["kind"]) == (7, "disk")
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_to_standard_error_beside_json(omnictl: Command, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_NOTES", -1.0)
    without_the_broken_row(manifest)
    ended = omnictl("data", "check", "metadata.csv", "--json")
    assert ended.json["rows"] == 2
    assert "checking recordings: 2 of 2, 0 s left" in ended.err


@pytest.mark.slow
def test_spoken_digits(omnictl: Command, test_data: Path) -> None:
    report = omnictl("data", "check", test_data / "fsdd", "--limit", 60, "--json").json
    assert (report["rows"], report["rows_broken"]) == (180, 0)
    assert report["utterances_by_rate_hz"] == {"8000": 180}
    assert report["texts_in_train_and_test"] > 0
    assert set(report["utterances_by_speaker"]) <= {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    whole = omnictl("data", "stats", test_data / "fsdd", "--json").json
    assert sum(size["utterances"] for size in whole["splits"].values()) == 3000
    assert sum(size["hours"] for size in whole["splits"].values()) == pytest.approx(0.36, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "labels", "repeated"), [("cifar10_mini", 6000, 10, 0), ("openmoji", 2465, 12, 16)])
def test_real_images(omnictl: Command, test_data: Path, name: str, rows: int, labels: int, repeated: int) -> None:
    report = omnictl("data", "check", test_data / name, "--json").json
    assert (report["kind"], report["rows"], report["broken"]) == ("images", rows, [])
    assert len(report["labels"]["label"]) == labels
    assert sum(warning["kind"] == "duplicate" for warning in report["warnings"]) == repeated


def test_clips_of_many_sources(omnictl: Command, test_data: Path) -> None:
    ended = omnictl("data", "check", test_data / "speech_bits", "--json")
    seconds = sum(size["hours"] for size in ended.json["splits"].values()) * 3600
    assert (ended.code, ended.json["rows"], ended.json["broken"]) == (0, 17, [])
    assert seconds == pytest.approx(71, abs=1)
    assert omnictl("data", "stats", test_data / "speech_bits", "--json").json["seconds_max"] == ended.json["seconds_max"]
