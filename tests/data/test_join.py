"""Several corpora as one: nothing changes its split, and every file is there."""

import csv
import json

import pytest
import soundfile
from corpus_files import touch, write_lines, write_rows

from omnictl.cli.app import run
from omnictl.config.split import SPLITS
from omnictl.data.dialogues.manifest import read_dialogues
from omnictl.data.images.layouts import find_images
from omnictl.data.join import join_corpora
from omnictl.data.manifest.splits import fill_splits
from omnictl.data.speech.layouts import find_speech
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.source import open_corpus
from omnictl.errors import DataError, UsageError


def speech(folder, speakers=("ann", "bob"), count=20, **columns):
    names = [f"audio/{number}.wav" for number in range(count)]
    touch(folder, *names)
    rows = (f"{name},text {name} of {folder.name},{speakers[number % len(speakers)]}" for number, name in enumerate(names))
    write_lines(folder / "metadata.csv", "audio,text,speaker", *rows)
    return str(folder)


def photos(folder, splits=("train", "test")):
    touch(folder, *(f"{split}/{name}/{number}.jpg" for split in splits for name in ("cat", "dog") for number in range(3)))
    return str(folder)


def talk(folder, *, media=True):
    touch(folder, "a.png", "b.wav")
    shown = [{"type": "image", "image": "a.png"}, {"type": "audio", "audio": "b.wav"}] if media else []
    asked = [{"role": "user", "content": [*shown, {"type": "text", "text": f"What, {folder.name}?"}]}]
    said = [{"type": "text", "text": "That."}, {"type": "audio", "audio": "b.wav"}] if media else "That."
    write_rows(
        folder / "dialogues.jsonl", {"messages": [*asked, {"role": "assistant", "content": said}], "task": "x", "split": "train"}
    )
    return str(folder)


def test_speech_keeps_its_splits(tmp_path):
    first, second = speech(tmp_path / "one" / "voices"), speech(tmp_path / "two" / "voices", ("cleo",), 30)
    summary = join_corpora([first, second], tmp_path / "out")
    assert {name: sum(counts.values()) for name, counts in summary.rows.items()} == {"voices": 20, "voices_2": 30}
    manifest = find_speech(tmp_path / "out")
    assert (len(manifest.rows), manifest.broken) == (50, ())
    assert {row.split for row in manifest.rows if row.audio.is_relative_to(tmp_path / "out" / "voices")} == set(SPLITS)
    assert all(row.audio.stat().st_nlink == 2 for row in manifest.rows)


def test_a_speaker_is_kept_for_the_test_beside_the_test_of_others(tmp_path):
    summary = join_corpora([speech(tmp_path / "a"), speech(tmp_path / "b", ("dee",))], tmp_path / "out", holdout=["dee"])
    with (tmp_path / "out" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows if row["speaker"] == "dee"} == {"test"}
    assert summary.rows["b"] == {"train": 0, "val": 0, "test": 20}
    assert summary.rows["a"]["test"] > 0
    with pytest.raises(DataError, match="no recording of eve"):
        join_corpora([speech(tmp_path / "c"), speech(tmp_path / "d")], tmp_path / "out2", holdout=["eve"])
    assert not (tmp_path / "out2").exists()


def test_images_keep_labels_and_captions(tmp_path):
    touch(tmp_path / "drawings", "x.png", "y.png")
    rows = [{"image": "x.png", "caption": "An apple.", "label": {"colour": "red"}}, {"image": "y.png", "caption": "A pear."}]
    write_rows(tmp_path / "drawings" / "metadata.jsonl", *rows)
    join_corpora([photos(tmp_path / "photos"), str(tmp_path / "drawings")], tmp_path / "out")
    manifest = find_images(tmp_path / "out")
    assert [(dict(row.labels), row.caption) for row in manifest.rows if "drawings" in row.id] in (
        [({"colour": "red"}, "An apple."), ({}, "A pear.")],
        [({}, "A pear."), ({"colour": "red"}, "An apple.")],
    )
    assert [row.split for row in manifest.rows if row.id.startswith("photos/test/")] == ["test"] * 6


def test_dialogues_keep_their_media(tmp_path):
    join_corpora([talk(tmp_path / "a"), talk(tmp_path / "b", media=False)], tmp_path / "out")
    manifest = read_dialogues(tmp_path / "out")
    assert manifest.broken == ()
    assert [row.id for row in manifest.rows] == ["a: line 1", "b: line 1"]
    assert [media.file.name for media in manifest.rows[0].media] == ["a.png", "b.wav"]
    assert manifest.rows[0].messages[1].spoken[0].file.is_relative_to(tmp_path / "out")


def test_what_is_written_in_any_corpus_becomes_text(tmp_path):
    write_lines(tmp_path / "prose.txt", "\n\n\n".join(f"Document {number}." for number in range(40)))
    write_rows(tmp_path / "pictures.jsonl", {"image": "a.png", "caption": "A cat."}, {"image": "b.png", "caption": "A cat."})
    touch(tmp_path, "a.png", "b.png")
    sources = [str(tmp_path / "prose.txt"), speech(tmp_path / "voices"), str(tmp_path / "pictures.jsonl"), talk(tmp_path / "talks")]
    summary = join_corpora(sources, tmp_path / "out", kind="text")
    corpus = open_corpus(TextDataConfig(source=str(tmp_path / "out")))
    documents = {split: list(corpus.documents(split)) for split in SPLITS}
    assert "What, talks?\nThat." in documents["train"]
    assert sum(texts.count("A cat.") for texts in documents.values()) == 1  # two rows, one of them in another split
    assert {split: len(texts) for split, texts in documents.items()} == {
        split: sum(counts[split] for counts in summary.rows.values()) for split in SPLITS
    }
    own = open_corpus(TextDataConfig(source=str(tmp_path / "prose.txt")))
    assert set(own.documents("test")) <= set(documents["test"])


def test_what_cannot_be_joined(tmp_path):
    with pytest.raises(UsageError, match=r"voices is speech, not images"):
        join_corpora([photos(tmp_path / "photos"), speech(tmp_path / "voices")], tmp_path / "out")
    with pytest.raises(UsageError, match="TinyWorld has no files"):
        join_corpora(["tinyworld"], tmp_path / "out")
    with pytest.raises(UsageError, match="holds something already"):
        join_corpora([str(tmp_path / "photos")], tmp_path)
    with pytest.raises(UsageError, match="there are no speakers in images"):
        join_corpora([str(tmp_path / "photos")], tmp_path / "out", holdout=["ann"])


def test_the_command_says_what_was_written(tmp_path, capsys):
    sources = [talk(tmp_path / "a"), talk(tmp_path / "b")]
    (tmp_path / "b" / "b.wav").unlink()
    (tmp_path / "b" / "dialogues.jsonl").write_text((tmp_path / "a" / "dialogues.jsonl").read_text() + '{"messages": []}\n')
    touch(tmp_path / "b", "b.wav")
    assert run(["data", "join", *sources, "--out", str(tmp_path / "out"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["corpora"]["b"] == {"train": 1, "val": 0, "test": 0}
    assert [row["message"] for row in result["broken"]] == ["messages should be a list of messages, found an empty list"]
    assert result["commands"] == [f"omnictl sft --data {tmp_path / 'out'}"]


def test_splits_are_those_of_training(tmp_path):
    """By the rules that the loaders have, computed here once more."""
    first = speech(tmp_path / "a", ("ann",), 40)
    join_corpora([first, speech(tmp_path / "b")], tmp_path / "out")
    own = find_speech(tmp_path / "a").rows
    expected = fill_splits(own)
    joined = {row.text: row.split for row in find_speech(tmp_path / "out").rows}
    assert {row.text: split for split in SPLITS for row in expected[split]}.items() <= joined.items()


@pytest.mark.parametrize("links", [True, False])
def test_segments_take_no_name_that_a_file_has(tmp_path, monkeypatch, links):
    """A segment is called by its number, as may be a recording before or after it; each is a link to a file of somebody's."""

    def refuse(*_):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("omnictl.data.join.os.link", refuse)
    folder = tmp_path / "voices"
    folder.mkdir()
    for name, length in {"000001.flac": 500, "long.wav": 4000, "000002.flac": 700}.items():
        soundfile.write(folder / name, [0.1] * length, 8_000)
    rows = ["000001.flac,own,,", "long.wav,first,0,0.1", "long.wav,second,0.1,0.2", "000002.flac,other,,"]
    write_lines(folder / "metadata.csv", "audio,text,offset,duration,split", *(f"{row},train" for row in rows))
    before = [row.audio.read_bytes() for row in find_speech(folder).rows]
    join_corpora([str(folder)], tmp_path / "out")
    assert [row.audio.read_bytes() for row in find_speech(folder).rows] == before
    joined = {row.text: soundfile.info(row.audio).frames for row in find_speech(tmp_path / "out").rows}
    assert joined == {"own": 500, "first": 800, "second": 1600, "other": 700}


def test_a_text_that_one_corpus_tests_is_not_trained_on_in_another(tmp_path):
    texts = {
        "a": {"test": "exam", "val": "a"},
        "b": {"val": "check", "train": "exam"},
        "c": {"train": "check", "val": "c", "test": "exam of c"},
    }
    for name, by_split in texts.items():
        rows = ({"text": text, "split": split} for split, text in (*by_split.items(), ("train", f"own {name}")))
        write_rows(tmp_path / f"{name}.jsonl", *rows)
    summary = join_corpora([str(tmp_path / f"{name}.jsonl") for name in texts], tmp_path / "out", kind="text")
    corpus = open_corpus(TextDataConfig(source=str(tmp_path / "out")))
    assert {split: sorted(corpus.documents(split)) for split in SPLITS} == {
        "train": ["own a", "own b", "own c"],
        "val": ["a", "c", "check"],
        "test": ["exam", "exam of c"],
    }
    assert summary.rows["b"] == {"train": 1, "val": 1, "test": 0}
