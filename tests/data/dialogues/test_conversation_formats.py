import base64
import gzip
import io
import json
import logging

import pytest
from PIL import Image

from omnictl.data.dialogues.manifest import MediaFile, MessageRow, read_dialogues
from omnictl.data.images.files.decoder import read_image
from omnictl.errors import DataError

SAID = MessageRow("assistant", ("A cat.",))


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "a.wav"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def image(folder, name="a.png"):
    return MediaFile("image", folder.resolve() / name)


def sound(folder):
    return MediaFile("audio", folder.resolve() / "a.wav")


def read(folder, *rows):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_dialogues(folder / "rows.jsonl")
    assert manifest.broken == ()
    return [row.messages for row in manifest.rows]


def turns(text, reply="A cat."):
    return [{"from": "human", "value": text}, {"from": "gpt", "value": reply}]


def asked(content):
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "A cat."}]


def data_url(kind="png"):
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


# What is read


def test_llava(folder):
    rows = [
        {"id": 7, "image": "a.png", "conversations": turns("<image>\nWhat is it?")},
        {"id": "x", "image": ["a.png", "b.png"], "conversations": turns("Is <image> like <image>?")},
        {"conversations": turns("Hello.")},
    ]
    path = folder / "llava.json"
    path.write_text(json.dumps(rows, indent=1))
    manifest = read_dialogues(folder)
    assert [row.id for row in manifest.rows] == ["7", "x", "item 3"]
    assert [row.messages for row in manifest.rows] == [
        (MessageRow("user", (image(folder), "What is it?")), SAID),
        (MessageRow("user", ("Is", image(folder), "like", image(folder, "b.png"), "?")), SAID),
        (MessageRow("user", ("Hello.",)), SAID),
    ]
    assert manifest.rows[0].where == f"{path}:2"


def test_sharegpt_with_a_system_message_and_other_roles(folder):
    (first, second) = read(
        folder,
        {"conversations": [{"from": "system", "value": "Be brief."}, *turns("What?")]},
        {"system": "Be kind.", "conversations": [{"role": "user", "content": "What?"}, {"role": "model", "content": "A cat."}]},
    )
    assert first == (MessageRow("system", ("Be brief.",)), MessageRow("user", ("What?",)), SAID)
    assert second[0] == MessageRow("system", ("Be kind.",))


def test_media_beside_messages(folder):
    row = {"messages": asked("<audio>Look: <image>"), "images": ["a.png"], "audios": ["a.wav"]}
    nested = {"messages": asked("<image>"), "images": [{"path": "b.png"}]}
    placed = {"messages": asked([{"type": "image"}, {"type": "text", "text": "What?"}]), "images": ["a.png"]}
    first, second, third = read(folder, row, nested, placed)
    assert first[0].parts == (sound(folder), "Look:", image(folder))
    assert second[0].parts == (image(folder, "b.png"),)
    assert third[0].parts == (image(folder), "What?")


def test_openai_parts_with_data_urls(folder, tmp_path_factory):
    audio = base64.b64encode(b"RIFF").decode()
    content = [
        {"type": "input_text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": data_url(), "detail": "low"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "input_audio", "input_audio": {"data": audio, "format": "wav"}},
    ]
    (messages,) = read(folder, {"messages": [{"role": "developer", "content": "Be brief."}, *asked(content)]})
    assert messages[0] == MessageRow("system", ("Be brief.",))
    text, first, second, third = messages[1].parts
    assert (text, second) == ("What is", image(folder))
    assert read_image(first.file).tolist() == [[[255, 0, 0]] * 3] * 2
    assert (first.file.suffix, third.file.suffix, third.file.read_bytes()) == (".png", ".wav", b"RIFF")


def test_the_same_data_url_is_one_file(folder):
    row = {"messages": asked([{"type": "image_url", "image_url": {"url": data_url()}}])}
    (first,), (second,) = ((message[0].parts) for message in read(folder, row, row))
    assert first == second


def test_marks_in_plain_messages_are_letters(folder):
    (messages,) = read(folder, {"messages": asked("What does the tag <image> mean?")})
    assert messages[0].parts == ("What does the tag <image> mean?",)


def test_files_of_a_folder_by_their_splits(folder, caplog):
    for name, count in (("train.jsonl", 3), ("validation.jsonl.gz", 2), ("test.json", 1)):
        rows = [{"messages": asked(f"{name} {number}")} for number in range(count)]
        text = json.dumps(rows) if name == "test.json" else "\n".join(map(json.dumps, rows))
        (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    (folder / "config.json").write_text('{"lr": 1}')
    with caplog.at_level(logging.INFO, logger="omnictl"):
        rows = read_dialogues(folder).rows
    assert caplog.messages == [f"{folder}: 1 file is passed over as no dialogues (1 .json): config.json"]
    assert [(row.id, row.split) for row in rows] == [
        ("test.json: item 1", "test"),
        ("train.jsonl: line 1", "train"),
        ("train.jsonl: line 2", "train"),
        ("train.jsonl: line 3", "train"),
        ("validation.jsonl.gz: line 1", "val"),
        ("validation.jsonl.gz: line 2", "val"),
    ]


# What is not


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": asked("What?"), "images": ["a.png"]},
            "0 <image> in the text, 1 image file in the row: each file needs one mark in its place",
        ),
        (
            {"conversations": turns("<image><image>"), "image": "a.png"},
            "2 <image> in the text, 1 image file in the row: each file needs one mark in its place",
        ),
        (
            {"conversations": turns("<image>"), "images": ["a.png", "b.png"]},
            "1 <image> in the text, 2 image files in the row: each file needs one mark in its place",
        ),
        (
            {"conversations": turns("<image>\nWhat?")},
            "a text has <image>, and the row has no 'images': give their paths under that key",
        ),
        (
            {"messages": asked("<image>What?")},
            "a text begins with <image>, and the row has no 'images': give their paths under that key",
        ),
        ({"conversations": turns("<image>"), "image": "a.png", "images": ["a.png"]}, "the row has both 'image' and 'images'"),
        ({"conversations": turns("<image>"), "image": "c.png"}, "no such image file: {folder}/c.png"),
        (
            {"conversations": turns("What?", "<image>"), "image": "a.png"},
            "message 2 is the assistant's and shows an image; only what the user says may",
        ),
        (
            {"messages": asked("<video>"), "videos": ["a.mp4"]},
            "the row has 'videos', which are not read: take the row out, or describe them in the text",
        ),
        (
            {"conversations": turns("What?")[::-1]},
            "user and assistant should take turns, the assistant last; found assistant, user",
        ),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "the role of message 1 is 'tool', expected one of"),
        ({"conversations": "What?"}, "messages should be a list of messages, found a string"),
        (
            {"messages": asked([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}])},
            "the image https://example.com/a.png is on the web: download it and give its path",
        ),
        (
            {"messages": asked([{"type": "image", "image": "data:image/png;base64"}])},
            "the data URL 'data:image/png;base64'… has no comma",
        ),
        ({"messages": asked([{"type": "image", "image": "data:image/png;base64,AAA"}])}, "the base64 is broken or cut off: "),
        ({"messages": asked([{"type": "image", "image": "data:image/png;base64,"}])}, "the data URL is empty"),
        (
            {"messages": asked([{"type": "input_audio", "input_audio": "AAAA"}])},
            "input_audio should be an object with data and format, found a string",
        ),
    ],
)
def test_every_flaw_is_named(folder, row, message):
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({"messages": asked("Fine?")}) + "\n" + json.dumps(row) + "\n")
    (flaw,) = read_dialogues(path).broken
    assert flaw.where == f"{path}:2"
    assert flaw.message.startswith(message.replace("{folder}", str(folder.resolve())))


def test_a_cut_list_names_its_line(folder):
    path = folder / "llava.json"
    path.write_text(json.dumps([{"conversations": turns("a")}, {"conversations": turns("b")}], indent=1)[:-60])
    with pytest.raises(DataError) as error:
        read_dialogues(path)
    assert error.value.where.startswith(f"{path}:")
    assert error.value.message.startswith("broken JSON: ")


# Pairs of replies


def pairs(folder, *rows):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = read_dialogues(folder / "rows.jsonl")
    return manifest.rows, [row.message for row in manifest.broken]


def test_pairs_of_several_programs(folder):
    said = (("user", "What?"), ("assistant", "A cat."), ("assistant", "A dog."))
    question, better, worse = ({"role": role, "content": text} for role, text in said)
    rows = [
        {"messages": [question, better], "rejected": "A dog."},
        {"prompt": "What?", "chosen": "A cat.", "rejected": "A dog."},
        {"prompt": [question], "chosen": [better], "rejected": [worse]},
        {"chosen": [question, better], "rejected": [question, worse]},
        {"conversations": turns("What?")[:1], "chosen": turns("", "A cat.")[1], "rejected": turns("", "A dog.")[1]},
        {"messages": [question, better], "rejected_response": "A dog."},
    ]
    found, broken = pairs(folder, *rows)
    assert broken == []
    assert {(row.messages, row.rejected) for row in found} == {((MessageRow("user", ("What?",)), SAID), "A dog.")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": asked("What?"), "rejected": " A cat. "}, "the rejected reply is the last answer itself"),
        ({"messages": asked("What?"), "rejected": ""}, "the rejected is empty"),
        ({"prompt": "What?", "chosen": "A cat."}, "'rejected' should be a text or a list of messages, found null"),
        ({"prompt": "What?", "chosen": [], "rejected": "A dog."}, "'chosen' should be a text or a list of messages, found a list"),
        (
            {"chosen": asked("What?"), "rejected": asked("Who?")},
            "'chosen' and 'rejected' differ before their last message",
        ),
    ],
)
def test_flaws_of_pairs(folder, row, message):
    found, broken = pairs(folder, {"messages": asked("Fine?"), "rejected": "A dog."}, row)
    assert len(found) == 1
    assert broken[0].startswith(message)
