import json
import logging
import sys

import pytest

from omnictl.data.dialogues.manifest import (
    ANY_TASK,
    RECOGNISED,
    DialogueRow,
    MediaFile,
    MessageRow,
    find_dialogue_files,
    read_dialogues,
)
from omnictl.errors import DataError

SAID = {"role": "assistant", "content": "A cat."}


@pytest.fixture
def folder(tmp_path):
    """A corpus folder with a few files, whose content nobody looks at."""
    corpus = tmp_path / "corpus"
    (corpus / "media").mkdir(parents=True)
    for name in ("a.png", "b.png", "a.wav"):
        (corpus / "media" / name).write_bytes(b"")
    return corpus


def write(folder, *rows, name="dialogues.jsonl"):
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def asked(content, **fields):
    return {"messages": [{"role": "user", "content": content}, SAID], **fields}


def part(kind, value):
    return {"type": kind, kind: value}


def broken(folder, row):
    """The message about a row that stands below one that is fine."""
    path = write(folder, asked("What?"), row)
    found = read_dialogues(path)
    assert [row.id for row in found.rows] == ["line 1"]
    (only,) = found.broken
    assert (only.id, only.where) == ("line 2", f"{path}:2")
    return only.message


def test_rows(folder):
    image_part, audio_part = part("image", "media/a.png"), part("audio", "./media//a.wav")
    spoken = {"role": "assistant", "content": [part("text", "A cat."), audio_part]}
    path = write(
        folder,
        asked(" What? ", task="naming", id=" first ", split="dev"),
        "",
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image_part, audio_part]}, spoken]},
    )
    found = read_dialogues(path)
    image = MediaFile("image", folder.resolve() / "media" / "a.png")
    audio = MediaFile("audio", folder.resolve() / "media" / "a.wav")
    said = MessageRow("assistant", ("A cat.",))
    assert found.folder == folder.resolve()
    assert found.broken == ()
    assert found.rows == (
        DialogueRow("first", "naming", (MessageRow("user", ("What?",)), said), "val", f"{path}:1"),
        DialogueRow(
            "line 3",
            ANY_TASK,
            (MessageRow("system", ("Be brief.",)), MessageRow("user", (image, audio)), said._replace(spoken=(audio,))),
            None,
            f"{path}:3",
        ),
    )
    assert found.rows[1].media == (image, audio)
    assert found.rows[1].file == image.file
    assert str(found.rows[0].file) == "first"


def test_texts_that_follow_one_another_are_one(folder):
    content = [part("text", " Is this "), part("text", "a cat?\n"), part("image", "media/a.png"), part("text", " Or\tthis? ")]
    said = {"role": "assistant", "content": [part("text", "A "), part("audio", "media/a.wav"), part("text", "cat.")]}
    (row,) = read_dialogues(write(folder, {"messages": [{"role": "user", "content": content}, said]})).rows
    image = MediaFile("image", folder.resolve() / "media" / "a.png")
    assert [message.parts for message in row.messages] == [("Is this a cat?", image, "Or\tthis?"), ("A cat.",)]


@pytest.mark.parametrize("name", ["dialogues.jsonl", "metadata.jsonl", "manifest.jsonl"])
def test_a_folder_means_its_manifest(folder, name, caplog):
    path = write(folder, asked("What?"), name=name)
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert find_dialogue_files(folder) == find_dialogue_files(path) == [path]
        write(folder, asked("Who?"), name="more.jsonl")
        assert find_dialogue_files(folder) == [path]
    expected = f"1 file is passed over as the dialogues are those of {name} (1 .jsonl): more.jsonl"
    assert caplog.messages == [f"{folder}: {expected}"]
    write(folder, asked("What?"), name="dialogues.jsonl")
    assert [file.name for file in find_dialogue_files(folder)] == ["dialogues.jsonl"]


def test_files_that_cannot_be_read_at_all(folder, tmp_path):
    cases = [
        (tmp_path / "gone", f"no such file or folder: {tmp_path}/gone", str(tmp_path / "gone")),
        (folder / "media", f"{folder}/media has no file of dialogues\nRecognised are\n{RECOGNISED}", str(folder / "media")),
        (
            write(folder, "x", name="rows.csv"),
            f"{folder}/rows.csv is not a .jsonl or .json file of dialogues",
            f"{folder}/rows.csv",
        ),
        (
            write(folder, "{", asked("What?", task=3), name="a.jsonl"),
            f"no row of {folder}/a.jsonl can be used: broken JSON: ",
            f"{folder}/a.jsonl:1",
        ),
    ]
    for path, message, where in cases:
        with pytest.raises(DataError) as error:
            read_dialogues(path)
        assert error.value.message.startswith(message)
        assert error.value.where == where


@pytest.mark.parametrize(
    ("name", "content", "message", "fix"),
    [
        ("test.jsonl.zst", b"", "reading Zstandard needs the package zstandard", "pip install 'omnictl[zstd]'"),
        ("test.jsonl", b'{"messages": "\xe9"}\n', "is not UTF-8 text: byte 0xe9 in line 1", "iconv -f latin1 -t utf-8"),
        ("test.jsonl", b"{\n{\n", "no line of", "mend the file, or take it out of the folder"),
        ("test.json", b"[{,", "broken JSON: ", "mend the file there"),
        ("test.json", b"", "test.json is empty", "write dialogues into it, or take it out of the folder"),
    ],
)
def test_a_file_of_a_folder_that_cannot_be_read_is_not_passed_over(folder, monkeypatch, name, content, message, fix):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    write(folder, asked("What?"), name="train.jsonl")
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_dialogues(folder)
    assert message in error.value.message
    assert error.value.where.startswith(f"{folder}/{name}")
    assert fix in error.value.fix


def test_a_broken_first_line_does_not_hide_the_others(folder):
    write(folder, asked("What?"), name="train.jsonl")
    write(folder, '{"messages": [', asked("Who?"), name="test.jsonl")
    manifest = read_dialogues(folder)
    assert [(row.id, row.split) for row in manifest.rows] == [("test.jsonl: line 2", "test"), ("train.jsonl: line 1", "train")]
    assert [row.where for row in manifest.broken] == [f"{folder}/test.jsonl:1"]


def test_the_only_file_of_a_folder_is_the_split_of_its_name(folder):
    path = write(folder, asked("What?"), asked("Who?", split="val"), name="test.jsonl")
    assert [(row.id, row.split) for row in read_dialogues(folder).rows] == [("line 1", "test"), ("line 2", "val")]
    assert [row.split for row in read_dialogues(path).rows] == [None, "val"]


@pytest.mark.parametrize("content", [b"", b" \n\n", b'{"messages": "\xff"}\n'])
def test_empty_files_and_files_that_are_no_text(folder, content):
    (folder / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError) as error:
        read_dialogues(folder / "a.jsonl")
    assert error.value.where.startswith(f"{folder}/a.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[" * 100_000, "broken JSON: "),
        ('{"messages": [}', "broken JSON: "),
        ([1], "an object was expected, found a list"),
        ({}, "no key 'messages' (found no keys)"),
        ({"mesages": [], "id": "x"}, "no key 'messages' (found 'mesages', 'id'); rename 'mesages'"),
        (asked("What?", id=3), "the id should be a string, found a number"),
        (asked("What?", id="line 1"), "the id 'line 1' is that of {path}:1, too"),
        (asked("What?", task=["a"]), "the task should be a string, found a list"),
        (asked("What?", split="dve"), "the split is 'dve', expected one of train, val, test"),
        (asked("What?", split=1), "the split should be a string, found a number"),
        ({"messages": "What?"}, "messages should be a list of messages, found a string"),
        ({"messages": []}, "messages should be a list of messages, found an empty list"),
        ({"messages": ["What?"]}, "message 1 should be an object with role and content, found a string"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            "the role of message 1 is 'bot', expected one of system, user, assistant",
        ),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "the role of message 1 is ['user'], expected one of"),
        ({"messages": [{"content": "x"}]}, "the role of message 1 is None, expected one of"),
        (
            {"messages": [{"role": "user", "content": "What?"}]},
            "user and assistant should take turns, the assistant last; found user",
        ),
        ({"messages": [SAID]}, "user and assistant should take turns, the assistant last; found assistant"),
        (
            {"messages": [{"role": "system", "content": "x"}]},
            "user and assistant should take turns, the assistant last; found system",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, SAID, SAID]},
            "user and assistant should take turns, the assistant last; found user, assistant, assistant",
        ),
        (asked(None), "the content of message 1 should be a string, found null"),
        (asked("  "), "the content of message 1 is empty"),
        (asked([]), "the content of message 1 is an empty list"),
        (asked("\ud800"), "the content of message 1 holds half a character (a lone surrogate) at position 0"),
        (asked(["What?"]), "part 1 of message 1 should be an object with a type, found a string"),
        (
            asked([part("text", "What?"), {"type": "video"}]),
            "the type of part 2 of message 1 is 'video', expected one of text, image, audio",
        ),
        (asked([{"type": ["text"]}]), "the type of part 1 of message 1 is ['text'], expected one of"),
        (
            asked([{"type": "image", "url": "a.png"}]),
            "part 1 of message 1 is of type 'image' and has no key 'image' (found 'type', 'url')",
        ),
        (asked([part("text", " ")]), "the part 1 of message 1 is empty"),
        (asked([part("text", "a\udc00")]), "the part 1 of message 1 holds half a character (a lone surrogate) at position 1"),
        (asked([part("image", 3)]), "the path of part 1 of message 1 should be a string, found a number"),
        (asked([part("image", "media/c.png")]), "no such image file: {folder}/media/c.png"),
        (asked([part("audio", "media")]), "no such audio file: {folder}/media"),
        (
            asked([part("image", "../a.png")]),
            "the image path '../a.png' should be relative to the folder of the corpus, without '..'",
        ),
        (
            asked([part("audio", "/etc/passwd")]),
            "the audio path '/etc/passwd' should be relative to the folder of the corpus, without '..'",
        ),
        (asked([part("image", "out.png")]), "the image path 'out.png' is a link that leaves the folder of the corpus"),
        (asked([part("image", "a\0.png")]), "the image path 'a\\x00.png' cannot be followed: "),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [part("image", "media/a.png")]}]},
            "message 2 is the assistant's and shows an image; only what the user says may",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [part("audio", "media/a.wav")]}]},
            "message 2 is the assistant's and has no text",
        ),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": [part("audio", "media/b.wav")]}]},
            "no such audio file: {folder}/media/b.wav",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": [part("text", "x"), part("audio", "media/a.wav")]},
                    asked("x")["messages"][0],
                    SAID,
                ]
            },
            "message 1 is the system's and has audio; only those of the user and the assistant may",
        ),
    ],
)
def test_every_flaw_is_named(folder, tmp_path, row, message):
    (tmp_path / "secret.png").write_bytes(b"")
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    expected = message.format(path=folder / "dialogues.jsonl", folder=folder.resolve()) if "{" in message else message
    assert broken(folder, row).startswith(expected)


def test_links_inside_of_the_folder_are_followed(folder):
    (folder / "link.png").symlink_to(folder / "media" / "a.png")
    assert len(read_dialogues(write(folder, asked([part("image", "link.png")]))).rows) == 1
