import json

import pytest

from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.errors import DataError

COCO = json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]})


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("rows.csv", "", "speech"),
        ("rows.csv", "audio,text\na.wav,hello\n", "speech"),
        ("rows.csv", "\ufeffimage, label\na.png,cat\n", "images"),
        ("rows.csv", "image,label\ra.png,cat\r", "images"),
        ("rows.csv", "path,words\na.wav,hello\n", "speech"),
        ("rows.csv", "file_name,text\na.JPG,A cat.\n", "images"),
        ("rows.jsonl", '\n{"text": "x", "audio" : "a.wav"}\n', "speech"),
        ("rows.jsonl", '{"text": "x", "audio_filepath" : "a.wav"}\n', "speech"),
        ("rows.jsonl", '{"image": "a", "label": {"audio": "no"}}\n', "images"),
        ("rows.jsonl", '{"file_name": "a.png", "text": "A cat."}\n', "images"),
        ("rows.jsonl", '{"text": "say \\"audio\\": now"}\n', "text"),
        ("rows.jsonl", '{"text": "see image.png"}\n{"text": 3}\n[1]\n{', "text"),
        ("rows.jsonl", "", "text"),
        ("rows.jsonl", '{"messages": [{"role": "user", "content": "see a.png"}], "image": "a.png"}\n', "dialogues"),
        ("rows.jsonl", '{"id": "1", "messages": 3}\n{"text": "x"}\n', "dialogues"),
        ("rows.jsonl", '{"text": "my messages", "meta": {"messages": []}}\n', "text"),
        ("rows.txt", "", "text"),
        ("rows.PARQUET", "", "text"),
    ],
)
def test_what_a_file_looks_like(tmp_path, name, content, kind):
    write(tmp_path, {name: content})
    assert find_kind(str(tmp_path / name)) == kind


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"metadata.csv": "audio,text\na.wav,hello\n"}, "speech"),
        ({"metadata.csv": "LJ001-0001|Printing|Printing\n", "wavs/LJ001-0001.wav": "", "readme.txt": ""}, "speech"),
        ({"1/2/1-2.trans.txt": ""}, "speech"),
        ({"train.tsv": "", "clips/x.mp3": ""}, "speech"),
        ({"clips/x.mp3": ""}, "speech"),
        ({"metadata.csv": ""}, "speech"),
        ({"metadata.jsonl": '{"image": "a.png", "label": "cat"}\n', "images/a.png": ""}, "images"),
        ({"metadata.csv": "title,author\nA,B\n", "manifest.jsonl": '{"image": "a.png"}\n'}, "images"),
        ({"annotations/captions_train2017.json": COCO, "train2017/1.jpg": "", "notes.txt": ""}, "images"),
        ({"cat/1.jpg": "", "dog/1.jpg": "", "classes.txt": ""}, "images"),
        ({"train/cat/1.jpg": "", "train/dog/1.jpg": "", "metadata.csv": "name,licence\nx,y\n"}, "images"),
        ({"photo.png": ""}, "images"),
        ({"dialogues.jsonl": "", "images/a.png": "", "audio/a.wav": ""}, "dialogues"),
        ({"dialogues.jsonl": "{}", "metadata.jsonl": '{"image": "a.png"}\n'}, "dialogues"),
        ({"metadata.jsonl": '{"messages": []}\n', "images/a.png": ""}, "dialogues"),
        ({"deep/down/rows.txt": ""}, "text"),
        ({"rows.txt": "", "metadata.csv": "title,author\nA,B\n"}, "text"),
        ({"metadata.jsonl": '{"text": "a document"}\n'}, "text"),
        ({"one/text.txt": "", "one/cover.jpg": "", "two/text.txt": "", "two/cover.jpg": ""}, "text"),
        ({"rows.txt": "", "figures/1.png": "", "figures/2.png": ""}, "text"),
    ],
)
def test_what_a_folder_looks_like(tmp_path, files, kind):
    write(tmp_path, files)
    assert find_kind(str(tmp_path)) == kind


def test_hidden_files_say_nothing(tmp_path):
    write(tmp_path, {".git/notes.txt": "", ".cache/a.png": "", "cat/1.jpg": "", "dog/1.jpg": ""})
    assert find_kind(str(tmp_path)) == "images"


def test_tinyworld_counts_as_speech():
    assert find_kind("tinyworld:7") == "speech"


@pytest.mark.parametrize("name", ["photo.png", "notes.pdf", "folder"])
def test_nothing_that_is_known(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        find_kind(str(path))
    first, *recognised = error.value.message.splitlines()
    assert first == f"{path} is neither speech nor images nor dialogues nor text that is known"
    assert [line for line in recognised if ":" not in line] == [
        "Recognised are",
        "Speech",
        "Images",
        "Dialogues",
        "Text",
        recognised[-1],
    ]
    assert recognised[-1] == ".arrow, .json, .jsonl, .parquet, .txt files"
    assert error.value.fix == "name a manifest, a text file, or the folder that directly holds one of these"


def test_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder: .*gone") as error:
        find_kind(str(tmp_path / "gone"))
    assert error.value.fix == "check the path, or name tinyworld or tinyworld:SEED"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fsdd", "speech"), ("speech_bits", "speech"), ("cifar10_mini", "images"), ("openmoji", "images"), ("text", "text")],
)
def test_real_folders(test_data, name, kind):
    assert find_kind(str(test_data / name)) == kind
