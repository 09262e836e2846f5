"""Every command in README and docs runs: in a fresh folder, in the order of the document, at the size of the debug preset."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path

import pytest
import soundfile
from PIL import Image
from stage_factory import FEW_JUDGED

from omnictl.cli.app import run
from omnictl.config import resolve, to_json
from omnictl.data.images.corpus import View
from omnictl.data.images.tinyworld import TinyWorldImages
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.errors import DataError
from omnictl.stages import STAGES, command_recipe, command_stages
from omnictl.stages.pretrain import PRESETS
from omnictl.tinyworld import document
from omnictl.trainer import trainer

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CONFIGS = sorted((ROOT / "examples" / "configs").glob("*"))

SHELLS = ("bash", "console", "sh")
SMALL_TOML = """
data = { num_documents = 200, num_eval_documents = 20, vocab_size = 320, seq_len = 64 }
model = { layers = 1, width = 32, hidden = 32 }
"""
PLANNED = "vision"
"""Instead of all stages."""

FEWEST_STEPS = "4"
"""Steps of a training."""

FEWEST_EXAMPLES = "4"
"""That an evaluation judges."""

MOST_LOG_LINES = 12
"""Of an entry of docs/log.md, its heading and empty lines included; what is longer belongs to docs/log/."""


def commands(markdown: str) -> Iterator[list[str]]:
    """The arguments of each `omnictl` command in the shell blocks; where there are prompts, the other lines are output."""
    for _, block in re.findall(rf"^```({'|'.join(SHELLS)})\n(.*?)^```", markdown, flags=re.MULTILINE | re.DOTALL):
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in prompted or lines:
            if line.startswith("omnictl "):
                yield shlex.split(line, comments=True)[1:]


def at_debug_size(arguments: list[str]) -> list[str]:
    """The same command with the debug preset, few steps or examples, and without `--max-minutes`."""
    arguments = without(arguments, "--max-minutes")
    if arguments[0] == "eval":
        return [*without(arguments, "--limit"), "--limit", FEWEST_EXAMPLES]
    if arguments[0] == "bench":
        return [*without(arguments, "--preset"), "--preset", "debug", "--steps", "1", "--only", "codec"]
    if arguments[0] == "plan":
        named = [PLANNED if argument == "all" else argument for argument in without(arguments, "--preset")]
        return [*named, "--preset", "debug"]
    if arguments[0] == "init":
        return [*without(arguments, "--preset"), "--preset", "debug"]
    if arguments[0] not in (*STAGES, "pipeline") or "--resume" in arguments:
        return arguments
    if arguments[0] in STAGES:
        arguments = [*without(arguments, "--max-steps"), "--max-steps", FEWEST_STEPS]
    else:
        stages = stages_of(arguments)
        few = [f"{stage}.{key}.steps={FEWEST_STEPS}" for stage in stages for key in STAGES[stage].training_keys]
        few += [f"{stage}.{FEW_JUDGED[stage]}" for stage in stages]
        arguments = [*arguments, *chain.from_iterable(("--set", setting) for setting in few)]
    return arguments if "--config" in arguments else [*without(arguments, "--preset"), "--preset", "debug"]


def stages_of(arguments: list[str]) -> list[str]:
    """The stages that a pipeline trains: all of them, or those of its project file."""
    if "--config" not in arguments:
        return list(command_stages())
    project = tomllib.loads(Path(arguments[arguments.index("--config") + 1]).read_text())
    return [stage for stage in command_stages() if stage in project]


def without(arguments: list[str], option: str) -> list[str]:
    """The arguments without an option and its value."""
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def make_files(arguments: list[str]) -> None:
    """Write the files that a command wants and that a reader would have."""
    if arguments[0] == "init":
        (Path(arguments[1]) / "texts").mkdir(parents=True)
        (Path(arguments[1]) / "texts" / "stories.txt").write_text("\n\n\n".join(document(99, "train", n) for n in range(400)))
    if arguments[:2] == ["data", "join"]:
        for path in map(Path, arguments[2 : arguments.index("--out")]):
            if not path.exists() and path.name in MADE:
                MADE[path.name](path)
    for option, value in pairwise(arguments):
        path = Path(value)
        if path.exists():
            continue
        if option == "--data" and path.suffix == ".txt":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n\n\n".join(document(99, "train", number) for number in range(200)))
        wanted = (
            ("--data", "asr"),
            ("--data", "vision"),
            ("--data", "talker"),
            ("--data", "sft"),
            ("check", "data"),
            ("stats", "data"),
            ("speak", "data"),
            ("describe", "data"),
        )
        if not path.suffix and (option, arguments[0]) in wanted:
            MADE.get(path.name, write_recordings)(path)
        if option == "--config":
            path.write_text(SMALL_TOML if path.suffix == ".toml" else to_json(PRESETS["debug"]))


def write_recordings(folder: Path) -> None:
    """Thirty spoken sentences with a manifest, and one of them as the file that a reader would have at hand."""
    corpus = TinyWorldSpeech(99, num_utterances=30, num_eval_utterances=2)
    (folder / "audio").mkdir(parents=True)
    rows = ["audio,text,speaker"]
    for number, (recording, audio) in enumerate(zip(corpus.recordings("train"), corpus.samples("train", 0, 16_000), strict=True)):
        assert not isinstance(audio, DataError)
        soundfile.write(folder / "audio" / f"{number}.flac", audio, 16_000)
        rows.append(f'audio/{number}.flac,"{recording.text}",{recording.speaker}')
        soundfile.write("in.wav", audio, 16_000)
    (folder / "metadata.csv").write_text("\n".join(rows))


def write_images(folder: Path) -> None:
    """Forty images in two class folders, and one of them as the file that a reader would have at hand."""
    scenes = TinyWorldImages(99, num_eval_images=2, top1=("shape", "colour")).images("train", "labels", {})
    for number in range(40):
        (folder / ("dogs", "cats")[number % 2]).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(scenes.example(number, View(32, 2)).image.transpose(1, 2, 0))
        image.save(folder / ("dogs", "cats")[number % 2] / f"{number}.png")
        image.save("photo.jpg")


def write_dialogues(folder: Path) -> None:
    """Twenty dialogues about ten images."""
    write_images(folder / "images")
    rows = []
    for number in range(20):
        image = f"images/{('dogs', 'cats')[number % 2]}/{number % 10}.png"
        asked = [{"type": "image", "image": image}, {"type": "text", "text": f"What is this, number {number}?"}]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": ("A dog.", "A cat.")[number % 2]}]
        rows.append(json.dumps({"messages": messages, "task": "animals"}))
    (folder / "dialogues.jsonl").write_text("\n".join(rows))


MADE: Mapping[str, Callable[[Path], None]] = {"images": write_images, "dialogues": write_dialogues, "recordings": write_recordings}
"""By the name of a folder."""


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMNICTL_RUNS")
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)  # timing it takes longer than a debug run
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for given in commands(path.read_text()):
        arguments = at_debug_size(given)
        make_files(arguments)
        code = run(arguments)
        assert code == 0, f"{path.name}: omnictl {shlex.join(given)}\n{capsys.readouterr().err}"


def test_the_readme_shows_the_main_commands() -> None:
    first_words = {arguments[0] for arguments in commands((ROOT / "README.md").read_text())}
    assert {"pretrain", "eval", "chat"} <= first_words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if "://" not in target and not (path.parent / target).exists()] == []


def test_the_map_of_the_readme_names_every_package() -> None:
    named = set(re.findall(r"`omnictl/(\w+)`", (ROOT / "README.md").read_text()))
    assert named == {path.parent.name for path in (ROOT / "omnictl").glob("*/__init__.py")}


def test_log_entries_are_dated_short_and_newest_first() -> None:
    entries = (ROOT / "docs" / "log.md").read_text().split("\n## ")[1:]
    headings = [entry.partition("\n")[0] for entry in entries]
    assert [heading for heading in headings if not re.match(r"\d{4}-\d\d-\d\d: ", heading)] == []
    dates = [heading[:10] for heading in headings]
    assert dates == sorted(dates, reverse=True)
    lengths = {heading: len(entry.strip().splitlines()) for heading, entry in zip(headings, entries, strict=True)}
    assert {heading: lines for heading, lines in lengths.items() if lines > MOST_LOG_LINES} == {}


def test_commands_are_found_in_shell_blocks_only() -> None:
    text = """omnictl not --this
```console
$ omnictl pretrain --preset tiny \\
    --seed 3
next
  omnictl chat --run runs/pretrain/1
```
```python
omnictl not --this
```
```bash
pip install omnictl
omnictl chat --text "a # b"   # a comment
```"""
    assert list(commands(text)) == [["pretrain", "--preset", "tiny", "--seed", "3"], ["chat", "--text", "a # b"]]


@pytest.mark.parametrize(
    ("given", "run_as"),
    [
        ("pretrain --preset tiny --max-minutes 5", "pretrain --max-steps 4 --preset debug"),
        ("pretrain --data my.txt", "pretrain --data my.txt --max-steps 4 --preset debug"),
        ("pretrain --config a.json", "pretrain --config a.json --max-steps 4"),
        ("pretrain --resume latest", "pretrain --resume latest"),
        ("eval pretrain", "eval pretrain --limit 4"),
    ],
)
def test_commands_at_debug_size(given: str, run_as: str) -> None:
    assert at_debug_size(given.split()) == run_as.split()


def test_every_training_and_judgement_of_a_pipeline_is_short() -> None:
    arguments = at_debug_size(["pipeline", "--preset", "tiny", "--set", "asr.train.steps=9", "--max-minutes", "30"])
    assert arguments[:3] == ["pipeline", "--set", "asr.train.steps=9"]
    assert arguments[-2:] == ["--preset", "debug"]
    assert {"pretrain.train.steps=4", "talker.codec.train.steps=4", "sft.train.steps=4"} < set(arguments)
    assert "sft.data.num_eval_dialogues=1" in arguments


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_example_configs_are_valid(path: Path) -> None:
    stages = {"audio": "asr", "thinker": "pretrain", "shakespeare": "pretrain", "omni": "sft"}
    word = path.stem.partition("_")[0]
    kind = command_recipe(stages.get(word, word)).config_type
    assert isinstance(resolve(kind, preset=None, file=path), kind)


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (.*tests/.*) \|$", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    named = [name for _, tests in rows for name in re.findall(r"`(tests/[\w/.]+)`", tests)]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).is_file()] == []
