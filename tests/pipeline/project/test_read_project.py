import json

import pytest
from stage_factory import finished_run

from omnictl.cli.app import run
from omnictl.errors import ConfigError, RunError
from omnictl.pipeline.pipeline import choose_config, create_pipeline_run, make_plan
from omnictl.pipeline.project.read_project import read_project


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
    for name in ("a", "b", "c"):
        (tmp_path / "voices" / f"{name}.wav").touch()
    (tmp_path / "voices" / "metadata.csv").write_text("audio,text\na.wav,hello\nb.wav,hello\nc.wav,hello\n")
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


def test_an_inline_table(folder):
    project = read_project(write(folder, 'asr = { data = "voices", preset = "debug", train = { steps = 7 } }\n'), preset="tiny")
    config = choose_config(project.stages, project.presets, [], project.config)
    assert (config.asr.data.source, config.asr.train.steps) == (str(folder / "voices"), 7)
    gone, steps = errors_of(folder, '\nasr = { data = "gone", train = { stepz = 3 } }\n')
    assert gone.startswith("DIR/my.toml:2: asr.data: no such file or folder: DIR/gone")
    assert steps.startswith("DIR/my.toml:2: train.stepz: ")


def test_settings_that_do_not_go_together_name_their_table(folder):
    (line,) = errors_of(folder, '[vision]\ndata = "photos"\n[pretrain]\ndata = "texts"\nmodel.context = 128\n')
    assert line == "DIR/my.toml:3: config: data.seq_len 256 exceeds model.context 128"


def test_a_key_with_a_line_end(folder):
    lines = errors_of(folder, '[pretrain]\ndata = "texts"\n"a\\n3: b" = 3\n[asr]\ndata = "gone"\n')
    assert [line.partition(": ")[0] for line in lines] == ["DIR/my.toml:3", "3", "DIR/my.toml:5"]


def test_stages_without_a_table(folder):
    text = '[pretrain]\ndata = "texts"\n'
    assert read_project(write(folder, text), preset="debug").stages == ("pretrain",)
    everything = read_project(write(folder, f'others = "tinyworld"\n{text}'), preset="debug")
    assert everything.stages == ("pretrain", "asr", "vision", "talker", "sft")
    config = choose_config(everything.stages, everything.presets, [], everything.config)
    assert (config.sft.data.source, config.pretrain.data.source) == ("tinyworld", str(folder / "texts"))


def test_some_stages_of_a_project(folder, monkeypatch):
    """What is made of it is the data of that stage alone, or what an option gives."""
    from omnictl.pipeline import pipeline

    made = []

    def create(root, plan, config, *others, **options):
        made.append((plan.train, {stage: getattr(config, stage).data.source for stage in plan.train}))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "create_pipeline_run", create)
    monkeypatch.chdir(folder)
    write(folder, '[pretrain]\ndata = "texts"\n[asr]\ndata = "tinyworld"\n')
    for options in (["--only", "asr"], ["--only", "vision", "--data", "vision=photos"], ["--data", "asr=voices"]):
        assert run(["pipeline", "--config", "my.toml", "--preset", "debug", "--device", "cpu", *options]) == 130
    assert made == [
        (("asr",), {"asr": "tinyworld"}),
        (("vision",), {"vision": str(folder / "photos")}),
        (("pretrain", "asr"), {"pretrain": str(folder / "texts"), "asr": str(folder / "voices")}),
    ]


def test_a_stage_that_another_needs_is_taken_from_a_run(folder, tmp_path):
    row = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Ho."}
    (folder / "talks.jsonl").write_text("".join(f"{json.dumps({'messages': row})}\n" for _ in range(30)))
    project = read_project(write(folder, '[sft]\ndata = "talks.jsonl"\n'), preset="debug")
    config = choose_config(project.stages, project.presets, [], project.config)
    with pytest.raises(RunError) as error:
        create_pipeline_run(tmp_path / "runs", make_plan(project.stages, None), config, "a", {}, tell=print)
    assert error.value.message == f"no finished run of stage `pretrain` in {tmp_path / 'runs'}"
    assert error.value.fix.endswith('in a project file, give it a table: [pretrain] data = "PATH"')


def test_a_voice_of_a_person_is_not_judged_by_a_recogniser_of_tinyworld(folder, tmp_path):
    finished_run(tmp_path / "runs", "asr")
    project = read_project(write(folder, '[talker]\ndata = "voices"\n'), preset="debug")
    config = choose_config(project.stages, project.presets, [], project.config)
    with pytest.raises(RunError, match=r"this needs a finished run of stage `asr` on .*voices"):
        create_pipeline_run(tmp_path / "runs", make_plan(project.stages, None), config, "a", {}, tell=print)


def test_a_recogniser_of_tinyworld_beside_a_voice_of_a_person(folder, monkeypatch, capsys):
    """Whether the file gives the recogniser TinyWorld's speech or leaves it to `others`, and unless an option gives it people's."""
    from omnictl.pipeline import pipeline

    def create(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "create_pipeline_run", create)
    monkeypatch.chdir(folder)
    write(folder, 'others = "tinyworld"\n[talker]\ndata = "voices"\n')
    command = ["pipeline", "--config", "my.toml", "--preset", "debug", "--device", "cpu", "--runs", "runs"]
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "the Talker is judged by what asr hears of it" in said
    assert "--data asr=PATH" in said
    assert run([*command, "--data", "asr=voices"]) == 130


def test_a_folder_that_is_called_almost_like_tinyworld(folder):
    (folder / "voices").rename(folder / "tinyworld_recordings")
    (line,) = errors_of(folder, '[asr]\ndata = "tinyworld"\n[talker]\ndata = "tinyworld_recordings"\n')
    assert "the two have other kinds of speech" in line


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
    assert lines[4].startswith("DIR/my.toml:7: train.stepz: ")
    assert lines[5].startswith("DIR/my.toml:8: asr: no data: give it data =")
    assert lines[6].startswith("DIR/my.toml:11: talker.data: should be a path or a table with source, found 3")


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
            '[pretrain]\ndata = ""\n',
            "DIR/my.toml:2: pretrain.data: the source of the data is empty; give --data the path of a file or a folder",
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
        (["--config", "my.toml", "--only", "asr"], 'fix: add one: [asr] data = "PATH"; or give its data with --data asr=PATH'),
        (["--config", "my.toml", "--data", "asr=voices"], "this pipeline trains pretrain, not asr"),
        (["--config", "my.toml", "--data", "pretrain=gone"], "no such file or folder: gone"),
        (["--config", "my.toml", "--data", "pretrain="], "the source of the data is empty"),
        (["--config", "own.toml", "--preset", "tiny"], 'own.toml says preset = "debug"'),
        (["--only", "asr", "--only", "talker", "--data", "talker=voices"], "fix: give both the same kind: --data asr=PATH"),
    ],
)
def test_options_that_do_not_fit(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, '[pretrain]\ndata = "texts"\n')
    (folder / "my.txt").write_text("x")
    (folder / "own.toml").write_text('preset = "debug"\n[pretrain]\ndata = "texts"\n')
    assert run(["pipeline", *arguments, "--device", "cpu", "--runs", "runs"]) in (2, 3)
    assert message in capsys.readouterr().err
