import io
import json
import logging
import os
import runpy
import sys
import tarfile
from pathlib import Path

import pyarrow
import pytest
import soundfile
from PIL import Image
from pyarrow import parquet

from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.files.decoder import read_image
from omnictl.data.images.layouts import find_images
from omnictl.data.inspect.corpus_kind import find_file_kind, find_kind
from omnictl.data.manifest.cache import cache_dir
from omnictl.data.packed import unpack
from omnictl.data.speech.layouts import find_speech
from omnictl.errors import DataError, DiskFull


def png(colour="red"):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "png")
    return file.getvalue()


def wav():
    file = io.BytesIO()
    soundfile.write(file, [0.0, 0.1] * 500, 8_000, format="WAV")
    return file.getvalue()


def media(data, path=None):
    return {"bytes": data, "path": path}


def table(columns, features=None):
    """A table as `datasets` writes it, what it knows of its columns in the schema."""
    made = pyarrow.table(columns)
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}) if features else made


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "packed_rows.py"

CLASSES = {"image": {"_type": "Image"}, "label": {"names": ["red", "blue"], "_type": "ClassLabel"}}


def pictures(colours):
    return {"image": [media(png(colour)) for colour in colours], "label": [colour == "blue" for colour in colours]}


def write_arrow(path, made):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, made.schema) as stream:
        stream.write_table(made, max_chunksize=2)


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_parquet_of_images_with_classes(tmp_path):
    (tmp_path / "data").mkdir()
    rows = pictures(["red", "blue", "red"])
    rows["label"] = [int(value) for value in rows["label"]]
    for name in ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"):
        parquet.write_table(table(rows, CLASSES), tmp_path / "data" / name)
    assert find_kind(str(tmp_path)) == "images"
    manifest = find_images(tmp_path)
    assert [(row.labels["label"], row.split) for row in manifest.rows] == [
        (label, split) for split in ("train", "val") for label in ("red", "blue", "red")
    ]
    assert read_image(manifest.rows[1].image)[0, 0].tolist() == [0, 0, 255]
    assert manifest.rows[1].where == f"{tmp_path}/data/train-00000-of-00001.parquet: row 2"
    one_file = find_images(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert [row.split for row in one_file.rows] == [None] * 3


def test_a_dataset_on_disk(tmp_path):
    columns = {"audio": [media(wav(), f"{n}.wav") for n in range(5)], "sentence": ["Hello."] * 5, "client_id": list("ababa")}
    for split in ("train", "test"):
        write_arrow(tmp_path / split / "data-00000-of-00001.arrow", table(columns))
        (tmp_path / split / "state.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert find_kind(str(tmp_path)) == "speech"
    manifest = find_speech(tmp_path)
    assert [(row.text, row.speaker, row.split) for row in manifest.rows[:2]] == [("Hello.", "a", "test"), ("Hello.", "b", "test")]
    assert len(manifest.rows) == 10
    assert soundfile.info(manifest.rows[0].audio).frames == 1000


def test_what_datasets_keeps_of_earlier_steps_is_passed_over(tmp_path, caplog):
    columns = {"audio": [media(wav(), "1.wav")], "sentence": ["Hello."]}
    cache = tmp_path / "train" / "cache-0123456789abcdef_00000_of_00002.arrow"
    for file in (tmp_path / "train" / "data-00000-of-00001.arrow", cache):
        write_arrow(file, table(columns))
    (tmp_path / "train" / "state.json").write_text("{}")
    with caplog.at_level(logging.INFO, logger="omnictl"):
        assert [row.split for row in find_speech(tmp_path).rows] == ["train"]
    reason = "tables that Hugging Face's datasets keeps of earlier steps"
    assert f"{tmp_path}: 1 file is passed over as {reason} (1 .arrow): train/{cache.name}" in caplog.messages
    assert find_file_kind(cache) is None
    assert len(find_speech(cache).rows) == 1  # if it is named itself
    (tmp_path / "train" / "state.json").unlink()
    assert len(find_speech(tmp_path).rows) == 2  # a table of this name


def test_paths_beside_a_table(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    columns = {"image": [media(None, "a.png"), media(None, "/etc/passwd"), media(None, "../a.png")], "caption": ["A cat."] * 3}
    parquet.write_table(table(columns, {"image": {"_type": "Image"}}), tmp_path / "rows.parquet")
    manifest = find_images(tmp_path / "rows.parquet")
    assert [row.caption for row in manifest.rows] == ["A cat."]
    assert [row.message for row in manifest.broken] == ["the image path should be a string, found null"] * 2


def test_media_beside_a_table_are_those_that_are_there_now(tmp_path, monkeypatch):
    columns = {"image": [media(png("red")), media(None, "a.png")], "caption": ["A cat.", "A dog."]}
    parquet.write_table(table(columns, {"image": {"_type": "Image"}}), tmp_path / "rows.parquet")
    assert [row.caption for row in find_images(tmp_path).rows] == ["A cat."]
    (tmp_path / "a.png").write_bytes(png("blue"))
    assert read_image(find_images(tmp_path).rows[1].image)[0, 0].tolist() == [0, 0, 255]
    (tmp_path / "a.png").write_bytes(png("white"))
    os.utime(tmp_path / "a.png", ns=(0, 1))
    rows = find_images(tmp_path).rows
    assert read_image(rows[1].image)[0, 0].tolist() == [255] * 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unpack, "_write", None)
    assert [row.image for row in find_images(Path("rows.parquet")).rows] == [row.image for row in rows]


def test_media_that_change_while_they_are_unpacked(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    parquet.write_table(table({"image": [media(None, "a.png")], "caption": ["A cat."]}), tmp_path / "rows.parquet")
    monkeypatch.setattr(unpack, "flush", lambda _: (tmp_path / "a.png").unlink())
    with pytest.raises(DataError, match=r"a.png has changed while .* was unpacked"):
        find_images(tmp_path)


def test_the_split_of_a_file_is_that_of_the_folder_that_was_given(tmp_path):
    (tmp_path / "test").mkdir()
    parquet.write_table(table({**pictures(["red"]), "label": [0]}, CLASSES), tmp_path / "test" / "0.parquet")
    for path, split in ((tmp_path / "test", None), (tmp_path, "test"), (tmp_path / "test" / "0.parquet", None)):
        assert [row.split for row in find_images(path).rows] == [split]


def test_dialogues_in_parquet(tmp_path):
    turns = [{"role": "user", "content": "<image>What colour?"}, {"role": "assistant", "content": "Red."}]
    parquet.write_table(table({"images": [[media(png())], []], "messages": [turns, turns]}), tmp_path / "a.parquet")
    assert find_kind(str(tmp_path)) == "dialogues"
    manifest = read_dialogues(tmp_path)
    (row,) = manifest.rows
    assert [part if isinstance(part, str) else part.kind for part in row.messages[0].parts] == ["image", "What colour?"]
    assert manifest.broken[0].where == f"{tmp_path}/a.parquet: row 2"


@pytest.mark.parametrize(("name", "mode"), [("train-000.tar", "w"), ("train-000.tar.gz", "w:gz")])
def test_webdataset_of_images(tmp_path, name, mode):
    files = {
        "./0001.png": png(),
        "./0001.cls": b"7",
        "0002.png": png("blue"),
        "0002.json": b'{"caption": "Blue."}',
        "x/.DS_Store": b"",
    }
    write_tar(tmp_path / name, {**files, "0003.txt": b"no image"}, mode)
    manifest = find_images(tmp_path)
    assert [(row.labels, row.caption, row.split) for row in manifest.rows] == [
        ({"label": "7"}, None, "train"),
        ({}, "Blue.", "train"),
    ]
    assert [(row.where, row.message) for row in manifest.broken] == [
        (f"{tmp_path / name}: 0003", "the image path should be a string, found null")
    ]


def test_webdataset_of_speech_and_of_dialogues(tmp_path):
    (tmp_path / "speech").mkdir()
    write_tar(tmp_path / "speech" / "0.tar", {"a.wav": wav(), "a.txt": b"Hello.\n", "b.flac": wav(), "b.json": b'{"text": "Bye."}'})
    assert [row.text for row in find_speech(tmp_path / "speech").rows] == ["Hello.", "Bye."]
    turns = [{"from": "human", "value": "<image><image>Alike?"}, {"from": "gpt", "value": "No."}]
    write_tar(
        tmp_path / "a.tar", {"1.0.png": png(), "1.1.png": png("blue"), "1.json": json.dumps({"conversations": turns}).encode()}
    )
    assert find_kind(str(tmp_path / "a.tar")) == "dialogues"


@pytest.mark.parametrize("order", [1, -1])
def test_media_of_a_sample_are_those_that_its_json_names(tmp_path, order):
    """Whichever comes first in the tar."""
    spoken = {"0.wav": wav(), "0.json": b'{"text": "Bye.", "audio": "0.wav"}'}
    write_tar(tmp_path / "speech.tar", dict([*spoken.items()][::order]))
    (row,) = find_speech(tmp_path / "speech.tar").rows
    assert (row.text, soundfile.info(row.audio).frames) == ("Bye.", 1000)
    turns = [{"from": "human", "value": "<image><image>Alike?"}, {"from": "gpt", "value": "No."}]
    said = json.dumps({"conversations": turns, "image": ["1.0.png", "1.1.png"]}).encode()
    shown = {"1.json": said, "1.0.png": png(), "1.1.png": png("blue")} if order == 1 else {"1.0.png": png(), "1.json": said}
    write_tar(tmp_path / "talks.tar", {**shown, "1.1.png": png("blue")})
    (talk,) = read_dialogues(tmp_path / "talks.tar").rows
    assert [read_image(each.file)[0, 0].tolist() for each in talk.media] == [[255, 0, 0], [0, 0, 255]]


def test_the_archive_beside_what_was_in_it_is_passed_over(tmp_path):
    for name in ("cat/1.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png())
    write_tar(tmp_path / "download.tar", {"a.png": png(), "a.cls": b"1"})
    assert find_kind(str(tmp_path)) == "images"
    assert [row.id for row in find_images(tmp_path).rows] == ["cat/1.png", "dog/1.png"]


def test_a_corpus_is_unpacked_once(tmp_path, monkeypatch):
    write_tar(tmp_path / "0.tar", {"a.png": png(), "a.cls": b"1"})
    first = find_images(tmp_path)
    monkeypatch.setattr(unpack, "_write", None)
    assert find_images(tmp_path) == first


# Flaws


@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_files_that_are_cut_off_leave_nothing_behind(tmp_path, name, kept, monkeypatch):
    monkeypatch.setenv("OMNICTL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / name
    made = table({"image": [media(png())] * 50, "caption": ["A."] * 50})
    if name == "a.tar":
        write_tar(path, {f"{number}.png": png() * 20 for number in range(50)})
    elif name == "a.parquet":
        parquet.write_table(made, path)
    else:
        write_arrow(path, made)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)] or b"<html>")
    with pytest.raises(DataError, match=r"is not a whole (tar|Parquet|Arrow) file") as error:
        find_images(path)
    assert error.value.fix == "write or download it anew"
    assert [file for file in cache_dir().glob("unpacked/*") if file.suffix != ".lock"] == []


def test_a_tar_may_hold_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("omnictl.data.packed.webdataset.MAX_BYTES", 100)
    write_tar(tmp_path / "a.tar", {"a.png": png(), "b.png": bytes(101)})
    with pytest.raises(DataError, match=r"b.png has 101 bytes; at most 100 were expected"):
        find_images(tmp_path)


def test_no_space_to_unpack(tmp_path, monkeypatch):
    write_tar(tmp_path / "a.tar", {"a.png": png(), "a.cls": b"1"})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DiskFull, match="in the cache") as error:
        find_images(tmp_path)
    assert "OMNICTL_CACHE" in error.value.fix


def test_another_kind_says_which_command_reads_it(tmp_path):
    write_tar(tmp_path / "a.tar", {"a.png": png(), "a.cls": b"1"})
    with pytest.raises(DataError) as error:
        find_speech(tmp_path)
    assert error.value.message == f"{tmp_path} holds images, not speech"
    assert error.value.fix == "train vision on it, or give --data speech"


def test_pyarrow_is_an_extra(tmp_path, monkeypatch):
    parquet.write_table(table(pictures(["red"]), CLASSES), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError) as error:
        find_images(tmp_path / "a.parquet")
    assert error.value.fix == "pip install 'omnictl[parquet]'"


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_memory_does_not_grow_with_the_rows(tmp_path, kind):
    """20,000 rows of 3 KB would be 60 MB; what stays is the rows' names, about 1 KB each. The benchmark takes any number."""
    module = runpy.run_path(str(BENCHMARK))
    measured = module["measure"](kind, 20_000, tmp_path)
    assert measured["rows"] == 20_000
    assert measured["peak_mb"] - measured["idle_mb"] < 20_000 * 0.002 + 40
