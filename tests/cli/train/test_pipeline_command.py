import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from stage_factory import FEW_JUDGED

from omnictl.cli.app import run
from omnictl.cli.train.next_steps import training_lines, use_lines
from omnictl.errors import Diverged
from omnictl.pipeline import context, evaluate, pipeline
from omnictl.runs.run import CHECKSUM, Run
from omnictl.stages import STAGES, command_stages
from omnictl.stages.talker_recipe import SECTIONS
from omnictl.trainer import loop
from omnictl.trainer.log import StepRecord

Command = Callable[..., Any]

COMMANDS = command_stages()
STEPS = 3
TRAININGS = [
    f"{stage}.{key}"
    for stage in COMMANDS
    for key in ([f"{part}.train" for part in SECTIONS.values()] if STAGES[stage].recipe else ["train"])
]
"""Where the config says how each part is trained."""


def small(*stages: str) -> list[str]:
    """Options for a few steps and few examples to be judged on."""
    return [*short(*stages), *chain.from_iterable(("--set", f"{stage}.{FEW_JUDGED[stage]}") for stage in stages or COMMANDS)]


def short(*stages: str) -> list[str]:
    """Options for a few steps that are the same every time: which number format is faster may change."""
    chosen = [key for key in TRAININGS if key.partition(".")[0] in (stages or COMMANDS)]
    values = [f"{key}.{value}" for key in chosen for value in (f"steps={STEPS}", "precision=fp32", "save_every=1")]
    return ["--preset", "debug", *chain.from_iterable(("--set", value) for value in values)]


def interrupt(*args: Any, **kwargs: Any) -> None:
    """Ctrl-C, in place of judging."""
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run root of a pipeline that is finished but for judging, which takes longest. Not to be changed: `finished` is a copy."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "evaluate_run", interrupt)
        assert run(["pipeline", *small(), "--quiet", "--runs", str(root)]) == 130
    the_run(root, "pipeline").update(status="finished")
    return root


@pytest.fixture
def finished(whole_once: Path, runs: Path) -> Run:
    """A finished pipeline in this test's run root."""
    shutil.copytree(whole_once, runs)
    for path in runs.glob("*/*/run.json"):
        record = json.loads(path.read_text().replace(str(whole_once), str(runs)))
        path.write_text(json.dumps({key: value for key, value in record.items() if key != CHECKSUM}))
    return the_run(runs, "pipeline")


def the_run(runs: Path, stage: str) -> Run:
    (path,) = (runs / stage).iterdir()
    return Run(path)


def made_of(runs: Path) -> Iterator[tuple[str, bytes]]:
    """The weights and logs of all stages."""
    for path in sorted(runs.glob("*/*/model/model.safetensors")) + sorted(runs.glob("*/*/metrics.jsonl")):
        yield path.relative_to(runs).parts[0] + "/" + path.name, path.read_bytes()


def trained_with(monkeypatch: pytest.MonkeyPatch, train: Callable[..., Any]) -> None:
    monkeypatch.setattr(context, "train", train)


@pytest.mark.slow
def test_from_an_empty_folder_to_the_end(omnictl: Command, runs: Path) -> None:
    ended = omnictl("pipeline", *small(), "--name", "mine", "--json")
    assert ended.code == 0
    result = ended.json
    assert list(result) == ["run", "status", "seconds", "plan", "stages", "evaluation", "report"]
    assert result["plan"] is None
    own = the_run(runs, "pipeline")
    assert (result["run"], result["status"], result["report"]) == (str(own.path), "finished", str(own.path / "report.html"))
    assert list(result["stages"]) == list(COMMANDS)
    for stage, state in result["stages"].items():
        made = the_run(runs, stage)
        assert (Path(state["run"]), state["status"]) == (made.path, "finished")
        assert isinstance(state["headline"]["value"], float)
        assert (made.record()["name"], made.record()["status"]) == ("mine", "finished")
    assert result["evaluation"]["missing"] == []
    reports = {report["stage"]: report for report in result["evaluation"]["stages"]}
    assert list(reports) == list(COMMANDS)
    assert reports["talker"]["judge"] == result["stages"]["asr"]["run"]
    assert all(report["run"] == result["stages"][stage]["run"] for stage, report in reports.items())
    assert own.record()["parents"] == {stage: state["run"] for stage, state in result["stages"].items()}
    page = own.page.read_text()
    assert all(f'<h2 id="{stage}">' in page for stage in COMMANDS)
    assert "finished" in page


@pytest.mark.slow
def test_people_are_told_what_to_do_next(omnictl: Command, finished: Run) -> None:
    ended = omnictl("pipeline", "--resume", "latest")
    assert ended.code == 0
    assert f"report: {finished.page}" in ended.out
    assert "cer_free_running" in ended.out
    parents = finished.record()["parents"]
    for stage in ("pretrain", "asr", "vision", "talker"):
        assert (
            f"{stage} has not learned: train it on\n  omnictl {stage} --resume {parents[stage]} --max-steps {2 * STEPS}"
            in ended.out
        )
    assert f"omnictl sft --config {parents['sft']}/config.json --name debug" in ended.out
    assert "nothing of it can be used yet" in ended.out
    assert re.search(r"^not learned: .*\bpretrain\b.*; trained \d+ stages in \d+ s$", ended.out, re.MULTILINE)
    assert "finished" not in ended.out
    assert "omnictl chat" not in ended.out


def verdicts(**found: str) -> Any:
    return {**dict.fromkeys(COMMANDS, "learned"), **found}


def test_only_what_works_is_suggested(finished: Run) -> None:
    runs = pipeline.stage_runs(finished)
    own = {stage: str(made.path) for stage, made in runs.items()}
    assert training_lines(runs, verdicts()) == []
    (line,) = training_lines(runs, verdicts(sft="weak"))
    assert line == f"sft is weak: train it on\n  omnictl sft --resume {own['sft']} --max-steps {2 * STEPS}"
    asr, again = training_lines(runs, verdicts(asr="weak", sft="not learned"))
    assert asr.startswith("asr is weak")
    assert "omnictl sft --config" in again
    chat = use_lines(runs, verdicts())
    assert "--speak reply.wav" in chat[0]
    assert "--speak" not in use_lines(runs, verdicts(talker="not learned"))[0]
    alone = use_lines(runs, verdicts(sft="not learned", vision="not learned"))
    assert [line.split()[1] for line in alone] == ["chat", "transcribe", "say"]
    assert use_lines(runs, dict.fromkeys(COMMANDS, "not learned")) == []
    runs["asr"].whole_config_file.write_text("{}")  # its training was too short for all of its data
    assert f"--config {runs['asr'].whole_config_file} --init {own['asr']}" in training_lines(runs, verdicts(asr="weak"))[0]
    runs["asr"].whole_config_file.unlink()
    runs["sft"].update(steps=1)  # out of time: as many as were planned
    assert training_lines(runs, verdicts(sft="weak"))[0].endswith(f"--max-steps {STEPS}")


def test_the_runs_are_those_of_the_single_commands(omnictl: Command, finished: Run, runs: Path) -> None:
    settings = [word.removeprefix("pretrain.") for word in small("pretrain")]
    assert omnictl("pretrain", *settings, "--quiet", "--runs", "alone").code == 0
    made, alone = the_run(runs, "pretrain"), the_run(Path("alone"), "pretrain")
    for name in ("model/model.safetensors", "metrics.jsonl", "config.json"):
        assert (made.path / name).read_bytes() == (alone.path / name).read_bytes(), name
    assert set(made.record()) == set(alone.record())
    assert sorted(path.name for path in alone.path.iterdir()) == sorted(
        path.name for path in made.path.iterdir() if path.name not in ("eval", "report.html")
    )


@pytest.mark.slow
def test_what_was_finished_is_not_trained_again(
    omnictl: Command, whole_once: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in each stage; `--resume` goes on there and ends as an undisturbed pipeline does."""
    trained: list[str] = []

    def interrupted(stage: Any, config: Any, own: Run, *args: Any, observer: Any, **kwargs: Any) -> Any:
        if stage.name in COMMANDS:
            assert Path(the_run(runs, "pipeline").record()["parents"][stage.name]) == own.path.absolute()
        trained.append(stage.name)
        if trained.count(stage.name) == 1:
            step = observer.step

            def stepped(record: StepRecord) -> None:
                step(record)
                if record.step == 2:
                    os.kill(os.getpid(), signal.SIGINT)

            monkeypatch.setattr(observer, "step", stepped)
        return loop.train(stage, config, own, *args, observer=observer, **kwargs)

    trained_with(monkeypatch, interrupted)
    ended = omnictl("pipeline", *small(), "--json")
    assert ended.code == 130
    own = the_run(runs, "pipeline")
    assert own.record()["status"] == ended.json["status"] == "interrupted"
    assert ended.json["evaluation"] is ended.json["report"] is None
    assert {stage: state["status"] for stage, state in ended.json["stages"].items()} == {"pretrain": "interrupted"}
    for _ in range(10):
        ended = omnictl("pipeline", "--resume", own.path)
        if ended.code == 0:
            break
        assert f"omnictl pipeline --resume {own.path}" in ended.out
    parts = [name for stage in COMMANDS for name in (["codec", "aligner", "talker"] if stage == "talker" else [stage])]
    assert trained == [part for part in parts for _ in range(2)]
    assert own.record()["status"] == "finished"
    assert dict(made_of(runs)) == dict(made_of(whole_once))


def test_an_interrupt_in_the_last_step_of_a_stage_ends_the_pipeline(
    omnictl: Command, runs: Path, interrupt_at: Callable[[int], list[str]]
) -> None:
    trained = interrupt_at(STEPS)
    stages = "pretrain", "asr"
    only = chain.from_iterable(("--only", stage) for stage in stages)
    assert omnictl("pipeline", *small(*stages), *only, "--quiet").code == 130
    assert trained == ["pretrain"]
    assert the_run(runs, "pretrain").record()["status"] == "finished"
    assert the_run(runs, "pipeline").record()["status"] == "interrupted"


@pytest.mark.faults
def test_a_killed_process_leaves_nothing_behind(omnictl: Command, whole_once: Path, runs: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from omnictl.cli.app import run\n"
        "from omnictl.cli.train.progress import TrainingProgress\n"
        "def step(self, record):\n"
        "    if self.stage == 'asr' and record.step == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "TrainingProgress.step = step\n"
        "run(sys.argv[1:])"
    )
    stages = "pretrain", "asr"
    command = ["pipeline", *small(*stages), *chain.from_iterable(("--only", stage) for stage in stages)]
    child = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL
    own = the_run(runs, "pipeline")
    assert own.record()["status"] == "running"
    assert {stage: Run(Path(path)).record()["status"] for stage, path in own.record()["parents"].items()} == {
        "pretrain": "finished",
        "asr": "running",
    }
    ended = omnictl("pipeline", "--resume", "latest", "--json")
    assert ended.code == 0
    assert list(ended.json["stages"]) == list(stages)
    expected = dict(made_of(whole_once))
    assert dict(made_of(runs)) == {name: expected[name] for name in expected if name.partition("/")[0] in stages}


def test_ctrl_c_while_judging(omnictl: Command, finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "evaluate_run", interrupt)
    ended = omnictl("pipeline", "--resume", "latest")
    assert ended.code == 130
    assert f"omnictl pipeline --resume {finished.path}" in ended.out
    assert finished.record()["status"] == "interrupted"


@pytest.mark.slow
def test_a_stage_that_fails(omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = ["asr"]

    def train(stage: Any, *args: Any, **kwargs: Any) -> Any:
        if stage.name in failing:
            raise Diverged("the loss is nan", fix="use --set train.lr=1e-4")
        return loop.train(stage, *args, **kwargs)

    trained_with(monkeypatch, train)
    ended = omnictl("pipeline", *small("pretrain", "asr"), "--only", "asr", "--only", "pretrain", "--json")
    own = the_run(runs, "pipeline")
    error = ended.json["error"]
    assert (ended.code, error["kind"], error["message"]) == (6, "diverged", "the loss is nan")
    assert error["fix"] == "use --set asr.train.lr=1e-4; in a new pipeline, which `--from asr` begins there"
    assert (own.record()["status"], own.record()["error"]) == ("failed", "Diverged: the loss is nan")
    failing.clear()
    before = the_run(runs, "pretrain").metrics_file.stat().st_mtime_ns
    assert omnictl("pipeline", "--resume", own.path).code == 0
    assert own.record()["status"] == "finished"
    assert the_run(runs, "pretrain").metrics_file.stat().st_mtime_ns == before


def test_only_one_stage(omnictl: Command, runs: Path) -> None:
    ended = omnictl("pipeline", *small("vision"), "--only", "vision", "--data", "tinyworld:7", "--seed", 5, "--json")
    assert ended.code == 0
    assert list(ended.json["stages"]) == ["vision"]
    assert [missing["stage"] for missing in ended.json["evaluation"]["missing"]] == [one for one in COMMANDS if one != "vision"]
    config = json.loads(the_run(runs, "vision").config_file.read_text())
    assert (config["data"]["source"], config["train"]["seed"]) == ("tinyworld:7", 5)
    assert sorted(path.name for path in runs.iterdir()) == ["pipeline", "vision"]


@pytest.mark.slow
def test_what_comes_before_is_taken_from_the_newest_runs(omnictl: Command, finished: Run, runs: Path) -> None:
    asr = the_run(runs, "asr")
    newer = Path(shutil.copytree(asr.path, asr.path.with_name("newer")))
    Run(newer).update(status="interrupted", created="9999")
    ended = omnictl("pipeline", *small("talker", *COMMANDS[4:]), "--from", "talker", "--name", "b", "--json")
    assert ended.code == 0
    assert f"not taken: {newer}: it is interrupted" in ended.err
    before = finished.record()["parents"]
    taken = COMMANDS[: COMMANDS.index("talker")]
    assert {stage: ended.json["stages"][stage]["run"] for stage in taken} == {stage: before[stage] for stage in taken}
    assert ended.json["stages"]["talker"]["run"] != before["talker"]
    assert ended.json["evaluation"]["missing"] == []
    assert all(len(list((runs / stage).iterdir())) == 1 for stage in ("pretrain", "vision"))


def test_a_run_that_is_needed_and_missing(omnictl: Command, runs: Path) -> None:
    ended = omnictl("pipeline", *small("talker"), "--only", "talker")
    assert ended.code == 4
    assert "needs a finished run of stage `asr` on tinyworld" in ended.err.replace("\n", " ")
    assert "omnictl asr" in ended.err
    assert not runs.exists()


@pytest.mark.slow
def test_little_time(omnictl: Command, runs: Path) -> None:
    """Far more steps than fit; every stage still ends with a model, and is judged."""
    endless = [word.replace(f"steps={STEPS}", "steps=100000") for word in short()]
    ended = omnictl("pipeline", *endless, "--max-minutes", 0.05, "--json")
    assert ended.code == 0
    assert all(Run(Path(state["run"])).record()["steps"] < 100_000 for state in ended.json["stages"].values())
    assert [report["stage"] for report in ended.json["evaluation"]["stages"]] == list(COMMANDS)


@pytest.mark.slow
def test_the_time_given_is_planned(omnictl: Command, runs: Path) -> None:
    """Far more than two small stages take: all steps, said before and noted."""
    stages = "pretrain", "vision"
    only = chain.from_iterable(("--only", stage) for stage in stages)
    ended = omnictl("pipeline", *short(*stages), *only, "--max-minutes", 2, "--json")
    assert ended.code == 0
    plan = ended.json["plan"]
    assert [(unit["unit"], unit["steps"]) for unit in plan["units"]] == [("pretrain", STEPS), ("vision", STEPS)]
    assert plan == the_run(runs, "pipeline").record()["plan"]
    assert f"pretrain: all {STEPS} steps in " in ended.err
    assert ended.err.index("vision: all") < ended.err.index("pretrain, stage 1 of 2")
    assert "its speed is estimated" in ended.err
    assert [the_run(runs, stage).record()["steps"] for stage in stages] == [STEPS, STEPS]


@pytest.mark.slow
def test_a_resume_is_planned_for_what_is_left(omnictl: Command, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stage: Any, *args: Any, **kwargs: Any) -> Any:
        if stage.name == "aligner":
            raise Diverged("the loss is nan", fix="lower the rate")
        return loop.train(stage, *args, **kwargs)

    with monkeypatch.context() as patch:
        trained_with(patch, fail)
        only = ("--only", "asr", "--only", "talker")
        assert omnictl("pipeline", *small("asr", "talker"), *only, "--max-minutes", 2).code == 6
    ended = omnictl("pipeline", "--resume", "latest", "--max-minutes", 2, "--json")
    assert ended.code == 0
    assert [unit["unit"] for unit in ended.json["plan"]["units"]] == ["aligner", "talker"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "my/recordings"], 2, "my/recordings cannot be the data of all stages"),
        (["--data", "tinywrold"], 3, "did you mean --data tinyworld?"),
        (["--data", "tinyworld:x"], 3, "a whole number"),
        (["--only", "codec"], 2, "a pipeline has no stage 'codec'"),
        (["--from", "nothing"], 2, "a pipeline has no stage 'nothing'"),
        (["--from", "asr", "--only", "vision"], 2, "--only and --from cannot go together"),
        (["--from", "vision"], 4, "omnictl pretrain"),
        (["--preset", "huge"], 2, "found the preset 'huge'"),
        (["--set", "asr.train.stepz=3"], 2, "asr.train.steps"),
        (["--set", "train.steps=3"], 2, "train"),
        (["--only", "vision", "--set", "asr.train.steps=3"], 2, "asr"),
        (["--name", "a/b"], 2, "does not suit a folder"),
        (["--resume", "latest"], 4, "no run of stage `pipeline`"),
        (["--max-minutes", "0"], 2, "max-minutes"),
        (["--device", "tpu"], 2, "is not a device"),
    ],
)
def test_bad_options(omnictl: Command, runs: Path, arguments: list[str], code: int, message: str) -> None:
    ended = omnictl("pipeline", *arguments)
    assert ended.code == code
    assert message in ended.err.replace("\n", " ")
    assert not runs.exists()


@pytest.mark.parametrize("given", [["--preset", "tiny"], ["--set", "a=1"], ["--only", "asr"], ["--from", "asr"], ["--seed", "1"]])
def test_resume_keeps_the_config(omnictl: Command, finished: Run, given: list[str]) -> None:
    ended = omnictl("pipeline", "--resume", "latest", *given)
    assert ended.code == 2
    assert f"{given[0]} cannot go with --resume" in ended.err
    assert "--init" not in ended.err


def test_one_process_at_a_time(omnictl: Command, finished: Run) -> None:
    with finished.lock():
        ended = omnictl("pipeline", "--resume", "latest")
    assert ended.code == 4
    assert f"another process is writing to {finished.path}" in ended.err.replace("\n", " ")
    assert finished.record()["status"] == "finished"


def test_a_stage_of_another_version(omnictl: Command, finished: Run) -> None:
    config = json.loads(finished.config_file.read_text())
    finished.write_config(json.dumps({**config, "smell": {}}))
    ended = omnictl("pipeline", "--resume", "latest")
    assert ended.code == 4
    assert "has the stages smell" in ended.err.replace("\n", " ")
