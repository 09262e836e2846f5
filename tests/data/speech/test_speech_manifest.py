import pytest
from corpus_files import only_broken, refusal, touch, write_lines, write_rows

from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.manifest import SpeechRow, read_manifest


@pytest.fixture
def folder(tmp_path):
    """A corpus folder with five audio files, whose content nobody reads."""
    corpus = tmp_path / "corpus"
    touch(corpus, *(f"audio/{letter}.wav" for letter in "abcde"))
    return corpus


def write_csv(folder, *lines, name="metadata.csv"):
    return write_lines(folder / name, *lines)


def write_jsonl(folder, *values, name="metadata.jsonl"):
    return write_rows(folder / name, *values)


def error_of(path):
    return refusal(read_manifest, path)


def broken_csv(folder, line, header="audio,text,speaker,split"):
    """The row that a line becomes, below one that is fine."""
    fine = ",".join(["audio/e.wav", "fine", "eve", "train"][: header.count(",") + 1])
    return only_broken(read_manifest(write_csv(folder, header, fine, line)))


def broken_jsonl(folder, value):
    return only_broken(read_manifest(write_jsonl(folder, {"audio": "audio/e.wav", "text": "fine"}, value)))


# Rows


def test_csv_rows(folder):
    path = write_csv(
        folder,
        "split,seconds,text,audio,speaker",
        "train,1.5,  Hello there. ,audio/a.wav,theo",
        ",1.5,Plain,./audio//b.wav,",
    )
    manifest = read_manifest(path)
    audio = folder.resolve() / "audio"
    assert manifest.folder == folder.resolve()
    assert manifest.rows == (
        SpeechRow("audio/a.wav", audio / "a.wav", "Hello there.", "theo", "train", f"{path}:2"),
        SpeechRow("audio/b.wav", audio / "b.wav", "Plain", None, None, f"{path}:3"),
    )
    assert manifest.broken == ()


def test_jsonl_rows(folder):
    path = write_jsonl(
        folder,
        {"audio": "audio/a.wav", "text": "Hello, \u2028 there", "speaker": 0, "split": "test", "seconds": 2},
        "",
        {"text": "b", "audio": "audio/b.wav", "speaker": None, "split": None},
    )
    audio = folder.resolve() / "audio"
    assert read_manifest(path).rows == (
        SpeechRow("audio/a.wav", audio / "a.wav", "Hello, \u2028 there", "0", "test", f"{path}:1"),
        SpeechRow("audio/b.wav", audio / "b.wav", "b", None, None, f"{path}:3"),
    )


def test_quotes_and_line_ends(folder):
    path = folder / "metadata.csv"
    path.write_bytes(
        b"\xef\xbb\xbfaudio,text\r\n"
        b'audio/a.wav,"Hello, ""you""\r\nthere"\r\n'
        b"\r\n"
        b'audio/b.wav, "one, two"\r\n'
        b'audio/c.wav,say "hi"\r\n'
    )
    rows = read_manifest(path).rows
    assert [row.text for row in rows] == ['Hello, "you"\r\nthere', "one, two", 'say "hi"']
    assert [row.where for row in rows] == [f"{path}:2", f"{path}:5", f"{path}:6"]


def test_an_audio_file_that_comes_again_has_a_number(folder):
    (folder / "audio" / "a.wav#2").write_bytes(b"")
    lines = ["audio/a.wav,one", "audio/a.wav,", "./audio/a.wav,three", "audio/a.wav#2,four", "audio/b.wav,five"]
    manifest = read_manifest(write_csv(folder, "audio,text", *lines))
    ids = [row.id for row in manifest.rows]
    assert ids == ["audio/a.wav", "audio/a.wav#3", "audio/a.wav#2#2", "audio/b.wav"]
    assert [row.id for row in manifest.broken] == ["audio/a.wav#2"]  # once mended, it moves no other


# Broken rows


@pytest.mark.parametrize(
    ("line", "identity", "message"),
    [
        ("audio/a.wav,,theo,train", "audio/a.wav", "the text is empty"),
        ("audio/a.wav,  ,theo,train", "audio/a.wav", "the text is empty"),
    ],
)
def test_broken_csv_row(folder, line, identity, message):
    where = f"{folder / 'metadata.csv'}:3"
    assert broken_csv(folder, line) == BrokenRow(identity or where, where, message)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b.wav"])
def test_an_audio_path_that_no_file_can_have(folder, name):
    assert broken_jsonl(folder, {"audio": name, "text": "hello"}).message.startswith("the audio path '")


@pytest.mark.parametrize(
    ("value", "identity", "message"),
    [
        ({"path": "audio/a.wav", "text": "hello"}, None, "no key 'audio' (found 'path', 'text'); rename 'path'"),
        ({"audio": "audio/a.wav", "Txt": "hello"}, "audio/a.wav", "no key 'text' (found 'audio', 'Txt'); rename 'Txt'"),
        ({"audio": 5, "text": "hello"}, None, "the audio path should be a string, found a number"),
        ({"audio": "audio/a.wav", "text": None}, "audio/a.wav", "the text should be a string, found null"),
        ({"audio": "audio/a.wav", "text": {"en": "hello"}}, "audio/a.wav", "the text should be a string, found an object"),
        (
            {"audio": "audio/a.wav", "text": "hello", "speaker": True},
            "audio/a.wav",
            "the speaker should be a string, found a truth value",
        ),
        ({"audio": "audio/a.wav", "text": "hello", "split": 1}, "audio/a.wav", "the split should be a string, found a number"),
        (
            {"audio": "audio/a.wav", "text": "a\ud800"},
            "audio/a.wav",
            "the text holds half a character (a lone surrogate) at position 1",
        ),
    ],
)
def test_broken_jsonl_row(folder, value, identity, message):
    where = f"{folder / 'metadata.jsonl'}:2"
    row = broken_jsonl(folder, value)
    assert (row.id, row.where) == (identity or where, where)
    assert row.message.startswith(message)


def test_every_broken_row_is_there(folder):
    manifest = read_manifest(write_csv(folder, "audio,text", "a.wav,x", "audio/b.wav,hello", ",", "audio/c.wav,"))
    assert [row.where.rpartition(":")[2] for row in manifest.broken] == ["2", "4", "5"]
    assert [row.id for row in manifest.rows] == ["audio/b.wav"]


# Files


def test_a_folder_named_like_a_manifest(folder):
    (folder / "metadata.csv").mkdir()
    assert error_of(folder / "metadata.csv").message == f"cannot read {folder / 'metadata.csv'}: Is a directory"


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8(folder, start):
    path = folder / "metadata.csv"
    path.write_bytes(start + b"audio,text\naudio/a.wav,caf\xe9\n")
    error = error_of(path)
    assert error.message == f"{path} is not UTF-8 text: byte 0xe9 in line 2"
    assert (error.where, error.fix) == (f"{path}:2", "convert it to UTF-8 (`iconv -f latin1 -t utf-8`)")


@pytest.mark.parametrize(
    ("header", "message", "fix"),
    [
        ("Audio,text", "no column 'audio' (found 'Audio', 'text')", "rename the column 'Audio' to 'audio'"),
        ("file_name,text", "no column 'audio' (found 'file_name', 'text')", "rename the column 'file_name' to 'audio'"),
        ("audio,texts", "no column 'text' (found 'audio', 'texts')", "rename the column 'texts' to 'text'"),
        ("audio,Transcription", "no column 'text' (found 'audio', 'Transcription')", "rename the column 'Transcription' to 'text'"),
        ("audio|text", "no column 'audio' (found 'audio|text')", "separate the columns by commas, semicolons or tabs"),
        (
            "audio/a.wav,hello",
            "no column 'audio' (found 'audio/a.wav', 'hello')",
            "start the file with a line that names its columns, 'audio' among them",
        ),
        ("audio,text,text", "two columns are called 'text'", "keep one of them"),
    ],
)
def test_header(folder, header, message, fix):
    error = error_of(write_csv(folder, "", header, "audio/a.wav,hello"))
    assert (error.message, error.where, error.fix) == (message, f"{folder / 'metadata.csv'}:2", fix)


@pytest.mark.parametrize(
    ("lines", "line", "last", "said"),
    [
        (["audio/a.wav,fine", 'audio/b.wav,"open', "audio/c.wav,three"], 3, 4, "unexpected end of data"),
        (["audio/a.wav,fine", "", 'audio/b.wav,"half" of it'], 4, 4, "',' expected after '\"'"),
    ],
)
def test_broken_quotes(folder, lines, line, last, said):
    error = error_of(write_csv(folder, "audio,text", *lines))
    assert error.message == f"broken quotes in lines {line} to {last}: {said}"
    assert error.where == f"{folder / 'metadata.csv'}:{line}"
    assert error.fix == 'put quotes around the whole field, and write a quote inside it twice: "the ""best"" one"'


# Real data


@pytest.mark.parametrize(
    ("name", "splits", "num_speakers"),
    [
        ("fsdd", {"train": 2700, "test": 300}, 6),
        ("kathleen", {"train": 1549, "test": 71}, 1),
        ("speech_bits", {None: 17}, 5),
    ],
)
def test_real_manifests(test_data, name, splits, num_speakers):
    manifest = read_manifest(test_data / name / "metadata.csv")
    assert manifest.broken == ()
    assert {split: sum(row.split == split for row in manifest.rows) for split in splits} == splits
    assert len(manifest.rows) == len({row.id for row in manifest.rows}) == sum(splits.values())
    assert len({row.speaker for row in manifest.rows}) == num_speakers
