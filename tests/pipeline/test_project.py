import pytest

from omnictl.cli.app import run
from omnictl.errors import ConfigError
from omnictl.pipeline.pipeline import choose_config
from omnictl.pipeline.project import read_project


@pytest.fixture
def folder(tmp_path):
    """A text, class folders with nothing in their images, and recordings that nobody opens."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("hello world")
    for number in range(30):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name / f"{number}.jpg").touch()
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "a.wav").touch()
    (tmp_path / "voices" / "metadata.csv").write_text("audio,text\na.wav,hello\n")
    return tmp_path


def write(folder, text):
    path = folder / "my.toml"
    path.write_text(text)
    return path


def errors_of(folder, text):
    with pytest.raises(ConfigError) as error:
        read_project(write(folder, text), preset="tiny")
    return error.value.message.replace(str(folder), "DIR").splitlines()


def test_a_project(folder):
    path = write(
        folder,
        'preset = "debug"\n[pretrain]\ndata = "texts"\ntrain.steps = 7\n'
        '[vision]\npreset = "tiny"\ndata = { source = "photos", augmentation = "none" }\n[asr]\ndata = "tinyworld:3"\n',
    )
    project = read_project(path, preset="tiny")
    assert project.stages == ("pretrain", "asr", "vision")
    assert project.presets == {"pretrain": "debug", "asr": "debug", "vision": "tiny"}
    config = choose_config(project.stages, project.presets, ["asr.train.steps=9"], project.config)
    assert config.pretrain.data.source == str(folder / "texts")
    assert (config.pretrain.train.steps, config.asr.train.steps) == (7, 9)
    assert (config.vision.data.source, config.vision.data.augmentation) == (str(folder / "photos"), "none")
    assert config.asr.data.source == "tinyworld:3"


def test_stages_without_a_table(folder):
    text = '[pretrain]\ndata = "texts"\n'
    assert read_project(write(folder, text), preset="debug").stages == ("pretrain",)
    everything = read_project(write(folder, f'others = "tinyworld"\n{text}'), preset="debug")
    assert everything.stages == ("pretrain", "asr", "vision", "talker", "sft")
    config = choose_config(everything.stages, everything.presets, [], everything.config)
    assert (config.sft.data.source, config.pretrain.data.source) == ("tinyworld", str(folder / "texts"))


def test_all_errors_at_once(folder):
    lines = errors_of(
        folder,
        'preset = "tinny"\notters = "out"\n[pretrain]\ndata = "gone"\n[vision]\ndata = "voices"\ntrain.stepz = 3\n'
        "[asr]\ntrain.steps = 3\n[talker]\ndata = 3\n",
    )
    assert lines[0] == "DIR/my.toml:1: preset: 'tinny' is none of the presets debug, tiny, small"
    assert lines[1] == "DIR/my.toml:2: otters: unknown key; did you mean 'others'?"
    assert lines[2] == "DIR/my.toml:4: pretrain.data: no such file or folder: DIR/gone; check the path given to --data"
    assert lines[3].startswith("DIR/my.toml:6: vision.data: no column 'image' (found 'audio', 'text')")
    assert any(line.startswith("DIR/my.toml:7: train.stepz: ") for line in lines)
    assert any(line.startswith("DIR/my.toml:8: asr: no data: give it data =") for line in lines)
    assert any(line.startswith("DIR/my.toml:11: talker.data: should be a path or a table with source, found 3") for line in lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('others = "none"\n[pretrain]\ndata = "texts"\n', "DIR/my.toml:1: others: 'none' is none of tinyworld, out"),
        ("pretrain = 3\n", "DIR/my.toml:1: pretrain: should be a table of settings, found 3"),
        ('preset = "debug"\n', "DIR/my.toml trains nothing"),
        (
            '[asr]\ndata = "voices"\n[talker]\ndata = "tinyworld"\n',
            "DIR/my.toml:4: talker.data: the Talker is judged by what asr hears of it, and the two have other kinds of speech: "
            "TinyWorld's, and people's; give both the same kind",
        ),
        (
            '[pretrain]\ndata = "tinywrld"\n',
            "DIR/my.toml:2: pretrain.data: no such file or folder: DIR/tinywrld; check the path given to --data",
        ),
    ],
)
def test_one_error(folder, text, message):
    assert errors_of(folder, text) == [message]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "asr=x", "--data", "my.txt"], "my.txt cannot be the data of all stages"),
        (["--data", "asx=x"], "a pipeline has no stage 'asx'"),
        (["--config", "my.toml", "--from", "asr"], "--from cannot go with a project file"),
    ],
)
def test_options_that_do_not_fit(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, '[pretrain]\ndata = "texts"\n')
    (folder / "my.txt").write_text("x")
    assert run(["pipeline", *arguments, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err
