"""From a folder of small corpora to a project file that a pipeline takes."""

import json
import shutil
import tomllib
import wave
from pathlib import Path

import pytest
from PIL import Image

from omnictl.config import resolve
from omnictl.config.serialization import flatten
from omnictl.data.inspect.folder_scan import CorpusPlace, scan_folder
from omnictl.pipeline.pipeline import choose_config
from omnictl.pipeline.project.read_project import read_project
from omnictl.pipeline.project.survey import make_draft, measure_corpus
from omnictl.pipeline.project.time_estimate import estimate_time
from omnictl.pipeline.project.write_project import project_text, source_of
from omnictl.stages import command_recipe

EXAMPLES = Path(__file__).parents[3] / "examples" / "configs"


def add_text(folder, characters=60_000):
    folder.mkdir(parents=True)
    (folder / "book.txt").write_text("a word " * (characters // 7))


def add_speech(folder, seconds, speakers=("ann",), text="hello"):
    """Ten recordings of silence."""
    folder.mkdir(parents=True)
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(4000)
        file.writeframes(bytes(int(seconds / 10 * 4000)))
    rows = [f"{number}.wav,{text},{speakers[number % len(speakers)]}" for number in range(10)]
    for number in range(10):
        shutil.copy(folder / "a.wav", folder / f"{number}.wav")
    (folder / "metadata.csv").write_text("\n".join(["audio,text,speaker", *rows, ""]))


def add_images(folder, number=120, header="label"):
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    for place in range(number):
        shutil.copy(folder / "a.png", folder / f"{place}.png")
    rows = [f"{place}.png,{('cat', 'dog')[place % 2]}" for place in range(number)]
    (folder / "metadata.csv").write_text("\n".join([f"image,{header}", *rows, ""]))


def add_dialogues(folder, number=60):
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for place in range(number):
        Image.new("RGB", (8, 8)).save(folder / f"{place}.png")
        question = [{"type": "image", "image": f"{place}.png"}, {"type": "text", "text": "What is this?"}]
        rows.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "A square."}]})
    (folder / "dialogues.jsonl").write_text("\n".join(map(json.dumps, rows)))


def draft_of(folder):
    return make_draft([measure_corpus(place) for place in scan_folder(folder).corpora])


def write(folder, preset="tiny"):
    file = folder / "my.toml"
    file.write_text(project_text(draft_of(folder), preset=preset, file=file, command="omnictl init"))
    return file


@pytest.fixture
def folder(tmp_path):
    add_text(tmp_path / "books")
    add_speech(tmp_path / "voice", 1000)
    add_speech(tmp_path / "voices", 2000, ("ann", "ben", "cid"))
    add_images(tmp_path / "photos")
    add_dialogues(tmp_path / "talks")
    return tmp_path


def test_every_stage_has_its_data(folder):
    project = read_project(write(folder), preset="debug")
    config = choose_config(project.stages, project.presets, [], project.config)
    assert project.stages == ("pretrain", "asr", "vision", "talker", "sft")
    assert set(project.presets.values()) == {"tiny"}
    sources = {stage: getattr(config, stage).data.source for stage in project.stages}
    names = {"pretrain": "books", "asr": "voices", "vision": "photos", "talker": "voice", "sft": "talks"}
    assert sources == {stage: str(folder / name) for stage, name in names.items()}  # the most hours; the most of one voice


def test_the_file_says_what_was_found(folder):
    text = write(folder).read_text()
    assert 'data = "books"  # 59,997 characters in 1 file\n' in text
    assert (
        'data = "voices"   # 10 utterances, 33.3 min, 3 speakers\n# data = "voice"  # 10 utterances, 16.7 min, 1 speaker\n' in text
    )
    assert 'data = "photos"  # 120 images: 2 labels (cat, dog)\n' in text
    assert 'data = "talks"  # 60 dialogues about 60 images\n' in text


def test_a_real_voice_has_the_settings_that_learned_one(folder):
    project = read_project(write(folder), preset="tiny")
    ours = flatten(choose_config(project.stages, project.presets, [], project.config).talker)
    recipe = command_recipe("talker")
    example = flatten(resolve(recipe.config_type, preset=None, file=EXAMPLES / "talker_recordings.json"))
    free = ("data.", "istft.", "vocoder")
    differing = {key for key in example if ours[key] != example[key] and not key.startswith(free)}
    assert differing == {key for key in differing if key.endswith(("eval_every", "save_every"))}
    debug = tomllib.loads(write(folder, "debug").read_text())
    assert debug["talker"] == {"data": "voice"}


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("pretrain", "DIR/books has 4,998 characters of text, 50,000 or more would be needed"),
        ("asr", "DIR/voice has 1 minutes of recordings with transcripts, 3 or more would be needed"),
        ("talker", "DIR/voice has 1 minutes of a voice with transcripts, 15 or more would be needed"),
        ("vision", "no images with labels or captions found"),
        ("sft", "no dialogues found"),
    ],
)
def test_what_is_missing(tmp_path, stage, reason):
    add_text(tmp_path / "books", 5000)
    add_speech(tmp_path / "voice", 60)
    draft = draft_of(tmp_path)
    assert draft.stages == ()
    assert draft.choices[stage].lacking.replace(str(tmp_path), "DIR") == reason


def test_what_a_stage_would_refuse_is_not_chosen(tmp_path):
    add_speech(tmp_path / "voice", 400, text="привет")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metadata.csv").write_text("image,label\ngone.png,cat\n")
    draft = draft_of(tmp_path)
    assert "10 of 10 rows cannot be trained on, allowed are 5%:" in draft.choices["asr"].lacking
    assert "no row of" in draft.choices["vision"].lacking


@pytest.mark.parametrize(
    ("name", "text", "flaw"),
    [
        ("wiki_valid.txt", "a word", "nothing of DIR is left to train on: wiki_valid.txt is the val split by its name; rename it"),
        ("rows.jsonl", '{"text": "a word", "split": "test"}', "the train and val split of DIR is empty; give more text"),
    ],
)
def test_texts_that_leave_none_to_train_on(tmp_path, name, text, flaw):
    (tmp_path / name).write_text(text)
    assert measure_corpus(CorpusPlace(tmp_path, "text")).flaws["pretrain"].replace(str(tmp_path), "DIR").startswith(flaw)


def test_a_stage_that_others_need_stands_on_tinyworld(tmp_path):
    add_dialogues(tmp_path)
    draft = draft_of(tmp_path)
    assert draft.stand_ins == ("pretrain", "vision")
    project = read_project(write(tmp_path), preset="tiny")
    assert project.stages == ("pretrain", "vision", "sft")
    config = choose_config(project.stages, project.presets, [], project.config)
    assert (config.vision.data.source, config.sft.data.source) == ("tinyworld", str(tmp_path))


def test_images_with_captions_alone(tmp_path):
    add_images(tmp_path / "photos", header="caption")
    project = read_project(write(tmp_path), preset="tiny")
    assert choose_config(project.stages, project.presets, [], project.config).vision.objective == "contrastive"


def test_a_name_that_is_not_utf_8(tmp_path):
    path = tmp_path / "b\udcff"
    corpus = measure_corpus(CorpusPlace(path, "text"))
    assert corpus.flaws == {"pretrain": "its name is not valid UTF-8; rename it"}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("/a/b/data", '"data"'),
        ("/a/b", '"."'),
        ("/a/c/data", '"/a/c/data"'),
        ("/a/b/~x", '"./~x"'),
        ("/a/b/tinyworld", '"./tinyworld"'),
        ('/a/b/ü "q"\\n', '"ü \\"q\\"\\\\n"'),
        ("/a/b/x\x7f\n", '"x\\u007f\\n"'),
    ],
)
def test_how_a_path_is_written(path, source):
    assert source_of(Path(path), Path("/a/b/my.toml")) == source
    assert tomllib.loads(f"data = {source}")["data"].removeprefix("./") == json.loads(source).removeprefix("./")


def test_a_time_is_known_for_settings_of_a_measured_preset(folder, tmp_path):
    import torch

    project = read_project(write(folder), preset="tiny")
    estimate = estimate_time(project, torch.device("cpu"), tmp_path / "cache")
    assert set(estimate.seconds) == {"pretrain", "asr", "vision", "aligner", "sft"}
    assert estimate.unknown == ("codec", "talker")
    assert estimate.total_seconds > sum(estimate.seconds.values()) > 0
