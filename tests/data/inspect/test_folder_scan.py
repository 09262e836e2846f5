import json

import pytest

from omnictl.data.inspect.folder_scan import scan_folder

TALK = json.dumps({"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}]})
SPEECH = "audio,text\na.wav,hello\n"
IMAGES = "image,label\na.png,cat\n"
COCO = json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "A cat."}]})


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def found(folder, *skipped):
    scan = scan_folder(folder, skipped)
    return {corpus.path.relative_to(folder).as_posix(): corpus.kind for corpus in scan.corpora}, dict(scan.others)


@pytest.mark.parametrize(
    ("files", "corpora", "others"),
    [
        pytest.param({"metadata.csv": SPEECH, "a.wav": ""}, {".": "speech"}, {}, id="a manifest"),
        pytest.param({"one/a.txt": "", "two/deep/b.jsonl": '{"text": "x"}'}, {".": "text"}, {}, id="texts alone"),
        pytest.param({"cat/1.jpg": "", "dog/2024/1.jpg": ""}, {".": "images"}, {}, id="class folders, in depth"),
        pytest.param({"p/train/cat/1.jpg": "", "p/train/dog/1.jpg": "", "p/test/cat/2.jpg": ""}, {"p": "images"}, {}, id="splits"),
        pytest.param(
            {"p/cat/1.jpg": "", "p/dog/1.jpg": "", "voices/metadata.csv": SPEECH, "voices/a.wav": "", "books/a.txt": ""},
            {"p": "images", "voices": "speech", "books": "text"},
            {},
            id="a folder a kind",
        ),
        pytest.param(
            {"cat/1.jpg": "", "dog/1.jpg": "", "voices/metadata.csv": SPEECH},
            {".": "images", "voices": "speech"},
            {},
            id="class folders beside a corpus",
        ),
        pytest.param(
            {"p/train/cat/1.jpg": "", "p/train/dog/1.jpg": "", "q/sun/1.jpg": "", "q/moon/1.jpg": ""},
            {"p": "images", "q": "images"},
            {},
            id="images of two corpora",
        ),
        pytest.param(
            {"talks.json": f"[{TALK}]", "images/1.jpg": "", "notes.txt": "", "v/metadata.csv": SPEECH},
            {".": "dialogues", "notes.txt": "text", "v": "speech"},
            {},
            id="dialogues with what they talk about",
        ),
        pytest.param(
            {"metadata.csv": SPEECH, "p/metadata.csv": IMAGES, "audio/x.txt": ""}, {".": "speech", "p": "images"}, {}, id="in"
        ),
        pytest.param(
            {"rows.csv": SPEECH, "pics.csv": IMAGES, "a.wav": ""}, {"rows.csv": "speech", "pics.csv": "images"}, {}, id="names"
        ),
        pytest.param({"lib/1/2/1-2.trans.txt": ""}, {".": "speech"}, {}, id="LibriSpeech"),
        pytest.param(
            {"coco/annotations/captions_train2017.json": COCO, "coco/train2017/1.jpg": ""}, {"coco": "images"}, {}, id="COCO"
        ),
        pytest.param(
            {"a.txt": "", "b.txt": "", "p/metadata.csv": IMAGES, "p/a.png": ""},
            {".": "text", "p": "images"},
            {},
            id="texts at the top",
        ),
        pytest.param(
            {"a.txt": "", "b.txt": "", "lib/1/2/1-2.trans.txt": ""},
            {"a.txt": "text", "b.txt": "text", "lib": "speech"},
            {},
            id="texts whose reader would find others, too",
        ),
        pytest.param({"1.jpg": "", "2.jpg": ""}, {}, {"images without labels or captions": 2}, id="images alone"),
        pytest.param(
            {"a.wav": "", "a.txt": "", "b.mp3": ""},
            {},
            {"recordings without transcripts": 2, "texts named after the recordings or images beside them": 1},
            id="recordings with texts of their names",
        ),
        pytest.param({"a.pdf": "", "b.pdf": "", "x.json": '{"a": 1}'}, {}, {".pdf files": 2, ".json files": 1}, id="others"),
        pytest.param({".git/a.txt": "", "env/pyvenv.cfg": "", "env/a.txt": "", "README.txt": ""}, {}, {}, id="what is no data"),
    ],
)
def test_what_a_folder_holds(tmp_path, files, corpora, others):
    write(tmp_path, files)
    assert found(tmp_path) == (corpora, others)


def test_folders_that_are_skipped(tmp_path):
    write(tmp_path, {"runs/asr/log.txt": "", "books/a.txt": ""})
    assert found(tmp_path, tmp_path / "runs") == ({"books": "text"}, {})


def test_links_that_lead_round_in_circles(tmp_path):
    write(tmp_path, {"books/a.txt": "", "voices/metadata.csv": SPEECH})
    (tmp_path / "books" / "up").symlink_to(tmp_path)
    assert found(tmp_path) == ({"books/a.txt": "text", "voices": "speech"}, {})


def test_real_folders(test_data):
    corpora, others = found(test_data)
    assert others == {".md files": 2}
    for name, kind in {
        "kathleen": "speech",
        "fsdd": "speech",
        "cifar10_mini": "images",
        "openmoji": "images",
        "text": "text",
    }.items():
        assert corpora[name] == kind
    odd = {name.removeprefix("oddities/"): kind for name, kind in corpora.items() if name.startswith("oddities/")}
    assert odd == {
        **dict.fromkeys(("llava", "minimind", "swift_images"), "dialogues"),
        **dict.fromkeys(("gigaspeech", "libri", "lj_ext", "piper_ms", "segments"), "speech"),
        **dict.fromkeys(("text_gz", "text_splits"), "text"),
        "jfif": "images",
    }
