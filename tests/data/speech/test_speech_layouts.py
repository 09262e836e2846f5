import json

import pytest
from corpus_files import refusal, touch, write_lines

from omnictl.data.speech.layouts import RECOGNISED, find_speech


def error_of(path):
    return refusal(find_speech, path)


def make_manifest(folder, name="metadata.csv"):
    touch(folder, "a.wav")
    if name.endswith(".csv"):
        return write_lines(folder / name, "audio,text", "a.wav,hello")
    return write_lines(folder / name, json.dumps({"audio": "a.wav", "text": "hello"}))


def make_ljspeech(folder):
    touch(folder, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav", "wavs/LJ001-0003.wav")
    return write_lines(
        folder / "metadata.csv",
        'LJ001-0001|In 1455, "type"|In fourteen fifty-five, "type"',
        "LJ001-0002|the audio, only raw",
        "LJ001-0003|raw again|",
    )


def make_librispeech(root, subset="train-clean-5", speaker="84", chapter="121123"):
    folder = root / subset / speaker / chapter
    names = [f"{speaker}-{chapter}-{i:04}" for i in range(2)]
    touch(folder, *(f"{name}.flac" for name in names))
    return write_lines(folder / f"{speaker}-{chapter}.trans.txt", f"{names[0]} GO DO YOU HEAR", f"{names[1]} BUT IN LESS")


def make_common_voice(folder, *splits):
    for split in splits:
        touch(folder, f"clips/{split}_1.mp3", f"clips/{split}_2.mp3")
        write_lines(
            folder / f"{split}.tsv",
            "client_id\tpath\tsentence\tup_votes\tlocale",
            f'c1\t{split}_1.mp3\t"Quoted, he said.\t2\ten',
            f"c2\t{split}_2\tSecond.\t2\ten",
        )


def made(manifest):
    assert manifest.broken == ()
    return [(row.id, row.text, row.speaker, row.split) for row in manifest.rows]


# Layouts


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "manifest.csv", "manifest.jsonl"])
def test_a_folder_with_a_manifest(tmp_path, name):
    path = make_manifest(tmp_path, name)
    manifest = find_speech(tmp_path)
    assert made(manifest) == [("a.wav", "hello", None, None)]
    assert manifest == find_speech(path)
    assert manifest.rows[0].where == f"{path}:{2 if name.endswith('.csv') else 1}"


def test_ljspeech(tmp_path):
    index = make_ljspeech(tmp_path)
    manifest = find_speech(tmp_path)
    assert made(manifest) == [
        ("wavs/LJ001-0001.wav", 'In fourteen fifty-five, "type"', None, None),
        ("wavs/LJ001-0002.wav", "the audio, only raw", None, None),
        ("wavs/LJ001-0003.wav", "raw again", None, None),
    ]
    assert [row.where for row in manifest.rows] == [f"{index}:1", f"{index}:2", f"{index}:3"]
    assert manifest.rows[0].audio == tmp_path.resolve() / "wavs" / "LJ001-0001.wav"


def test_ljspeech_whose_ids_are_files(tmp_path):
    touch(tmp_path, "wavs/a.wav", "wavs/b.flac", "wavs/c.mp3")
    write_lines(tmp_path / "metadata.csv", "wavs/a.wav|One.", "b.flac|Two.", "c|Three.")
    assert [row[:2] for row in made(find_speech(tmp_path))] == [
        ("wavs/a.wav", "One."),
        ("wavs/b.flac", "Two."),
        ("wavs/c.mp3", "Three."),
    ]


@pytest.mark.parametrize(
    ("rows", "speakers"),
    [
        (["u0|anna|One two.", "u1|ben|Three.", "u2|anna|Four.", "u3|ben|Five."], ["anna", "ben", "anna", "ben"]),
        (["u0|Yes|yes", "u1|No|no", "u2|Yes|yes", "u3|No|no"], [None] * 4),
        (["u0|Dr. Who|Doctor Who", "u1|Dr. Who|Doctor Who"], [None] * 2),
        (["u0|1|one", "u1|2|two"], [None] * 2),
    ],
)
def test_a_speaker_between_id_and_text(tmp_path, rows, speakers):
    touch(tmp_path, *(f"wavs/u{number}.wav" for number in range(4)))
    write_lines(tmp_path / "metadata.csv", *rows)
    manifest = find_speech(tmp_path)
    assert [row.speaker for row in manifest.rows] == speakers
    assert [row.text for row in manifest.rows] == [row.split("|")[2] for row in rows]


def test_litter_of_a_mac_is_passed_over(tmp_path):
    index = make_librispeech(tmp_path)
    index.with_name(f"._{index.name}").write_bytes(b"\0\5\x16\7")
    assert len(find_speech(tmp_path).rows) == 2


def test_librispeech_from_its_root(tmp_path):
    make_librispeech(tmp_path)
    make_librispeech(tmp_path, "dev-clean", "174", "50561")
    index = make_librispeech(tmp_path, "test-other", "1688", "142285")
    make_librispeech(tmp_path, "extra", "9", "1")
    manifest = find_speech(tmp_path)
    assert [(row.speaker, row.split) for row in manifest.rows[::2]] == [
        ("174", "val"),
        ("9", None),
        ("1688", "test"),
        ("84", "train"),
    ]
    assert made(manifest)[4] == ("test-other/1688/142285/1688-142285-0000.flac", "GO DO YOU HEAR", "1688", "test")
    assert manifest.rows[5].where == f"{index}:2"


def test_one_subset_of_librispeech(tmp_path, monkeypatch):
    make_librispeech(tmp_path, "dev-clean")
    made_there = made(find_speech(tmp_path / "dev-clean"))
    assert made_there[0] == ("84/121123/84-121123-0000.flac", "GO DO YOU HEAR", "84", "val")
    monkeypatch.chdir(tmp_path / "dev-clean")
    manifest = find_speech(type(tmp_path)())
    assert made(manifest) == made_there
    assert manifest.rows[0].where == "84/121123/84-121123.trans.txt:1"


def test_common_voice(tmp_path):
    make_common_voice(tmp_path, "train", "dev", "test", "validated")
    manifest = find_speech(tmp_path)
    assert made(manifest) == [
        ("clips/train_1.mp3", '"Quoted, he said.', "c1", "train"),
        ("clips/train_2.mp3", "Second.", "c2", "train"),
        ("clips/dev_1.mp3", '"Quoted, he said.', "c1", "val"),
        ("clips/dev_2.mp3", "Second.", "c2", "val"),
        ("clips/test_1.mp3", '"Quoted, he said.', "c1", "test"),
        ("clips/test_2.mp3", "Second.", "c2", "test"),
    ]
    assert manifest.rows[3].where == f"{tmp_path / 'dev.tsv'}:3"


def test_common_voice_with_validated_rows_alone(tmp_path):
    make_common_voice(tmp_path, "validated")
    assert [row.split for row in find_speech(tmp_path).rows] == [None, None]


@pytest.mark.parametrize("name", ["speech_bits", "fsdd", "kathleen"])
def test_real_folders(test_data, name):
    manifest = find_speech(test_data / name)
    assert manifest.broken == ()
    assert len(manifest.rows) == {"speech_bits": 17, "fsdd": 3000, "kathleen": 1620}[name]


# Broken rows


def test_broken_rows_of_ljspeech(tmp_path):
    index = make_ljspeech(tmp_path)
    with index.open("a") as file:
        file.write("alone\n../x|text\nLJ001-0009|text\nLJ001-0001||\n|text\na|b|c|d\n")
    broken = find_speech(tmp_path).broken
    assert [(row.where, row.message) for row in broken] == [
        (f"{index}:4", "found 1 fields, expected id|text or id|text|normalised text"),
        (f"{index}:5", "the audio path 'wavs/../x.wav' should be relative to the folder of the corpus, without '..'"),
        (f"{index}:6", f"no such audio file: {tmp_path.resolve() / 'wavs' / 'LJ001-0009.wav'}"),
        (f"{index}:7", "the text is empty"),
        (f"{index}:8", f"no such audio file: {tmp_path.resolve() / 'wavs' / '.wav'}"),
        (f"{index}:9", "found 4 fields, expected id|text or id|text|normalised text"),
    ]


def test_broken_rows_of_librispeech(tmp_path):
    index = make_librispeech(tmp_path)
    with index.open("a") as file:
        file.write("84-121123-0000\n84-121123-0009 GONE\n/etc/passwd UP\n../0 OUT\n")
    broken = find_speech(tmp_path).broken
    assert [row.where for row in broken] == [f"{index}:{line}" for line in range(3, 7)]
    chapter = "train-clean-5/84/121123"
    assert [row.message for row in broken] == [
        "the text is empty",
        f"no such audio file: {tmp_path.resolve() / chapter / '84-121123-0009.flac'}",
        f"no such audio file: {tmp_path.resolve() / chapter / 'etc' / 'passwd.flac'}",
        f"the audio path '{chapter}/../0.flac' should be relative to the folder of the corpus, without '..'",
    ]


def test_broken_rows_of_common_voice(tmp_path):
    make_common_voice(tmp_path, "train")
    index = tmp_path / "train.tsv"
    with index.open("a") as file:
        file.write("c\ttrain_1.mp3\nc\t\tsentence\t0\ten\nc\ttrain_1.mp3\t\t0\ten\n")
    broken = find_speech(tmp_path).broken
    assert [(row.where, row.message) for row in broken] == [
        (f"{index}:4", "found 2 fields, expected the 5 of the header"),
        (f"{index}:5", "the audio path is empty"),
        (f"{index}:6", "the text is empty"),
    ]


# Errors


def test_missing_folder(tmp_path):
    error = error_of(tmp_path / "none")
    assert error.message == f"no such file or folder: {tmp_path / 'none'}"
    assert error.fix == "check the path given to --data"


def test_no_layout(tmp_path):
    make_librispeech(tmp_path / "too" / "deep")
    write_lines(tmp_path / "train.tsv", "path\tsentence")  # without clips
    error = error_of(tmp_path)
    assert error.message == f"{tmp_path} has no layout of speech data that is known\nRecognised are\n{RECOGNISED}"
    assert error.where == str(tmp_path)
    assert error.fix == "write a manifest, or give --data the folder that directly holds one of these"


def test_two_layouts(tmp_path):
    make_ljspeech(tmp_path)
    make_manifest(tmp_path, "manifest.jsonl")
    make_common_voice(tmp_path, "dev")
    index = make_librispeech(tmp_path)
    error = error_of(tmp_path)
    assert error.message == (
        f"{tmp_path} has 4 layouts at once: manifest ({tmp_path / 'manifest.jsonl'}) and LJSpeech ({tmp_path / 'metadata.csv'})"
        f" and LibriSpeech ({index}) and Common Voice ({tmp_path / 'dev.tsv'})\nRecognised are\n{RECOGNISED}"
    )
    assert error.fix == "give --data the manifest file that is meant, or move one of them elsewhere"


def test_two_manifests(tmp_path):
    first, second = make_manifest(tmp_path), make_manifest(tmp_path, "metadata.jsonl")
    assert error_of(tmp_path).message.startswith(f"{tmp_path} has 2 layouts at once: manifest ({first}) and manifest ({second})\n")


def test_a_table_of_something_else_does_not_stand_in_the_way(tmp_path):
    make_common_voice(tmp_path, "train")
    write_lines(tmp_path / "metadata.csv", "name,licence", "x,y")
    assert len(find_speech(tmp_path).rows) == 2


def test_a_manifest_with_another_header_says_what_it_lacks(tmp_path):
    path = write_lines(tmp_path / "metadata.csv", "file,text", "a.wav,hello")
    error = error_of(tmp_path)
    assert (error.where, error.fix) == (f"{path}:1", "rename the column 'file' to 'audio'")


def test_an_empty_manifest(tmp_path):
    path = write_lines(tmp_path / "metadata.csv")
    assert error_of(tmp_path).message == f"{path} is empty"


def test_common_voice_with_another_header(tmp_path):
    make_common_voice(tmp_path, "train", "dev")
    path = write_lines(tmp_path / "dev.tsv", "client_id\tpath\ttext", "c\ttrain_1.mp3\thello")
    error = error_of(tmp_path)
    assert error.message == "no column 'sentence' (found 'client_id', 'path', 'text')"
    assert (error.where, error.fix) == (f"{path}:1", "rename the column 'text' to 'sentence'")


def test_no_usable_row(tmp_path):
    index = write_lines(tmp_path / "metadata.csv", "LJ001-0001|text")
    error = error_of(tmp_path)
    audio = tmp_path.resolve() / "wavs" / "LJ001-0001.wav"
    assert error.message == f"no row of {tmp_path} can be used: no such audio file: {audio}"
    assert error.where == f"{index}:1"
