import pytest

from omnictl.data.inspect.corpus_kind import find_kind
from omnictl.data.speech.layouts import find_speech


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)


@pytest.fixture
def corpus(tmp_path):
    for name in ("a.wav", "b.flac"):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        (tmp_path / "wavs" / name).touch()
    return tmp_path


def test_splits_by_folder_and_paths_of_all_kinds(corpus):
    write(
        corpus / "data" / "train",
        wav_scp="u1 wavs/a.wav\nu2 ../../wavs/b.flac\n",
        text="u1 hello there\nu2 good day\n",
        utt2spk="u1 anna\n",
    )
    write(corpus / "data" / "test", wav_scp=f"u3 {corpus}/wavs/a.wav\n", text="u3 bye\n")
    manifest = find_speech(corpus)
    assert manifest.broken == ()
    assert [(row.id, row.text, row.speaker, row.split) for row in manifest.rows] == [
        ("wavs/a.wav", "bye", None, "test"),
        ("wavs/a.wav#2", "hello there", "anna", "train"),
        ("wavs/b.flac", "good day", None, "train"),
    ]
    assert manifest.rows[1].where == f"{corpus / 'data' / 'train' / 'text'}:1"
    assert find_kind(str(corpus)) == "speech"


def test_flaws_are_named(corpus, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.wav"
    outside.touch()
    write(
        corpus,
        wav_scp=f"ok wavs/a.wav\npipe sph2pipe a.sph |\nout {outside}\ngone wavs/c.wav\n",
        text="ok hello\npipe hello\nout hello\ngone hello\nnone hello\nok2\n",
    )
    manifest = find_speech(corpus)
    assert [row.text for row in manifest.rows] == ["hello"]
    assert [(row.where, row.message) for row in manifest.broken] == [
        (
            f"{corpus}/text:2",
            f"{corpus}/wav.scp:2 is a command, and commands are not run: run it, and write the path of its file there",
        ),
        (f"{corpus}/text:3", f"the audio path '{outside}' should be relative to the folder of the corpus, without '..'"),
        (f"{corpus}/text:4", f"no such audio file: {corpus.resolve()}/wavs/c.wav"),
        (f"{corpus}/text:5", "wav.scp has no line of 'none'"),
        (f"{corpus}/text:6", "wav.scp has no line of 'ok2'"),
    ]


def test_segments(corpus, monkeypatch):
    from omnictl.data.speech import layouts

    monkeypatch.setattr(layouts, "cut_segments", lambda manifest: manifest)
    write(
        corpus,
        wav_scp="rec wavs/a.wav\n",
        text="u1 hello\nu2 good day\nu3 no\nu4 no\n",
        segments="u1 rec 0.5 2\nu2 rec 2 3.25\nu3 rec x 2\n",
    )
    manifest = find_speech(corpus)
    assert [(row.offset, row.duration) for row in manifest.rows] == [(0.5, 1.5), (2.0, 1.25)]
    assert [row.message for row in manifest.broken] == [
        f"{corpus}/segments:3 should have a recording, a start and an end in seconds, found 'rec x 2'",
        "segments has no line of 'u4'",
    ]
