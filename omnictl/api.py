"""Everything the command line does, from Python: train, evaluate, and use what was trained.

    import omnictl

    trained = omnictl.train("pretrain", preset="tiny", max_minutes=10)
    print(omnictl.evaluate(trained.run).report.metrics)
    model = omnictl.load("runs/sft/2026-11-27_05-12-03_tiny")
    print(model.chat("What colour is the circle?", images=["scene.png"]))

The commands call the same functions of `pipeline`, `measure` and `use`. Errors are those of `omnictl.errors`, each with what to do.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from omnictl.config import choose_preset, resolve
from omnictl.config.split import Split
from omnictl.data.manifest.cache import cache_dir
from omnictl.errors import UsageError
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.tts import Voice, time_speech
from omnictl.measure.evaluate import Evaluation
from omnictl.pipeline.context import TrainContext
from omnictl.pipeline.evaluate import Measure, measure
from omnictl.pipeline.initial_weights import find_initial_weights
from omnictl.pipeline.job import create_job, train_job
from omnictl.pipeline.run_folder import absolute_source, versions_and_machine
from omnictl.pipeline.upstream_runs import choose_upstream
from omnictl.runs.model_folder import read_stage
from omnictl.runs.root import run_root
from omnictl.runs.run import Run
from omnictl.stages import STAGES, command_presets, command_recipe, command_stages
from omnictl.stages.asr import Asr
from omnictl.stages.protocol import TrainableStage, open_model
from omnictl.stages.sft import SftConfig
from omnictl.stages.vision import Vision
from omnictl.trainer.hardware.device import choose_device
from omnictl.trainer.log import Observer, StepRecord
from omnictl.trainer.stage import Report
from omnictl.use.chat_session import Attachment, Reply, Session
from omnictl.use.classify import Guess, classify_file
from omnictl.use.say import SpeechSettings, open_voice, stream
from omnictl.use.transcribe import Transcript, transcribe_file


class Speech(NamedTuple):
    """What a Talker said."""

    samples: NDArray[np.float32]
    """(n,) mono, from -1 to 1."""
    sample_rate: int


class TrainResult(NamedTuple):
    """A training that has ended."""

    run: Path
    status: str
    """`finished` or `interrupted`."""
    steps: int
    report: Report | None
    """The last validation; None if nothing was left to do."""


class Model:
    """A trained model; what it can do depends on its stage. An omni model does all of it.

    Args:
        folder: the model folder.
        device: where to compute.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.stage = read_stage(folder)

    def __repr__(self) -> str:
        return f"<omnictl model of stage {self.stage} in {self.folder}>"

    def chat(
        self,
        text: str = "",
        *,
        images: Sequence[str | Path] = (),
        audio: str | Path | None = None,
        temperature: float = 0.0,
        max_tokens: int = 128,
    ) -> str:
        """Say something and get the answer; the conversation goes on until `reset`.

        Args:
            text: what is said; may be empty if `audio` asks.
            images: files of images that it is about.
            audio: a file with what is said aloud.
            temperature: 0: always the likeliest token.
            max_tokens: length of the longest answer.

        Raises:
            UsageError: this model cannot converse, or what is shown is longer than it can read.
            RunError: it cannot see, or hear.
            DataError: a file cannot be read.
        """
        session = self._session
        shown = [session.show(Attachment("image", Path(image))) for image in images]
        shown += [session.show(Attachment("audio", Path(audio)))] if audio is not None else []
        pieces = session.reply(text, SamplingConfig(temperature=temperature), max_tokens=max_tokens, into=Reply(), shown=shown)
        return "".join(pieces).strip()

    def reset(self) -> None:
        """Forget the conversation."""
        self._session.reset()

    def transcribe(self, audio: str | Path) -> Transcript:
        """What is said in a recording, with the times of words in seconds.

        Raises:
            UsageError: this model cannot hear.
            DataError: the file cannot be read.
        """
        return transcribe_file(Path(audio), self._recogniser, self._recogniser.decoding)

    def classify(self, image: str | Path, *, most: int = 3) -> dict[str, list[Guess]]:
        """What an image shows: by attribute the likeliest values, likeliest first.

        Raises:
            UsageError: this model cannot see.
            DataError: the file cannot be read.
        """
        return classify_file(Path(image), self._classifier, most=most)

    def say(self, text: str, *, speaker: str | None = None, speed: float = 1.0, pitch: float = 0.0, seed: int = 0) -> Speech:
        """A text, spoken.

        Raises:
            UsageError: this model cannot speak, has no such speaker, or speed or pitch are out of bounds.
            DataError: some letters of the text cannot be said.
        """
        samples = time_speech(
            stream([text], self._voice, SpeechSettings(speaker=speaker, speed=speed, pitch=pitch, seed=seed))
        ).audio
        return Speech(samples, self._voice.vocoder.sample_rate)

    @cached_property
    def _session(self) -> Session:
        if not STAGES[self.stage].converses:
            raise self._cannot("converse", "pretrain", "sft")
        return Session.open(self.folder, self.device, cache_dir())

    @cached_property
    def _recogniser(self) -> Asr:
        return open_model(Asr, self._part("asr", "hear"), device=self.device, cache=cache_dir())

    @cached_property
    def _classifier(self) -> Vision:
        return open_model(Vision, self._part("vision", "see"), device=self.device, cache=cache_dir())

    @cached_property
    def _voice(self) -> Voice:
        return open_voice(self._part("talker", "speak"), self.device, cache_dir())

    def _part(self, stage: str, ability: str) -> Path:
        """The model folder of a stage: its own, or that of a part that it was joined from."""
        if self.stage == stage:
            return self.folder
        if (self.folder / stage / "config.json").is_file():
            return self.folder / stage
        raise self._cannot(ability, stage, "sft")

    def _cannot(self, ability: str, *stages: str) -> UsageError:
        return UsageError(
            f"a model of stage `{self.stage}` cannot {ability}",
            where=str(self.folder),
            fix=f"load one of stage {' or '.join(f'`{stage}`' for stage in stages)}",
        )


def load(path: str | Path, *, device: str = "auto") -> Model:
    """A trained model.

    Args:
        path: of a run, or of a model folder, wherever it was copied.
        device: `auto`, `cpu`, `cuda`, …

    Raises:
        CheckpointError: there is no whole model.
        UsageError: no such device here.
    """
    folder = Path(path)
    return Model(Run(folder).model if (folder / "run.json").is_file() else folder, choose_device(device))


def train(
    stage: str,
    *,
    preset: str = "tiny",
    data: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    init: str | Path | None = None,
    objective: str | None = None,
    runs: str | Path | None = None,
    name: str | None = None,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> TrainResult:
    """Train a stage in a new run, as `omnictl STAGE` does.

    Args:
        stage: `pretrain`, `asr`, `vision`, `talker` or `sft`.
        preset: `debug`, `tiny` or `small`.
        data: one's own; None: the built-in world.
        settings: by dotted key, as `--set` has them: `{"train.steps": 500}`.
        init: a run whose weights to start from, of `sft` with its parts; or, of `pretrain`, a Hugging Face folder with a Qwen3 and
            its tokenizer.
        objective: of `sft`: `replies`, which is the default, or `dpo` on top of `init`; each has presets of its own.
        runs: the folder of all runs; None: `$OMNICTL_RUNS`, else `./runs`.
        name: of the run; None: the preset's.
        max_steps: instead of the configured ones.
        max_minutes: the time to plan the training for.
        device: where to compute.
        tell: takes a line for people now and then.

    Raises:
        UsageError: there is no such stage, or no such device here.
        OmniError: whatever the stage raises; the run can be resumed with `omnictl STAGE --resume RUN`.
    """
    began = time.monotonic()
    if stage not in command_stages():
        raise UsageError(
            f"there is no stage {stage!r}, expected one of: {', '.join(command_stages())}", where="stage", fix="name one of these"
        )
    chosen = {} if objective is None else {"objective": objective}
    presets, root = command_presets(stage, objective), run_root(None if runs is None else Path(runs))
    source = {} if data is None else {"data.source": absolute_source(str(data))}
    initial = None if init is None else find_initial_weights(root, stage, str(init), tell)
    needed = [] if initial is None else initial.settings
    overrides = needed + [f"{key}={_format_setting(value)}" for key, value in (source | chosen | dict(settings or {})).items()]
    config = resolve(command_recipe(stage).config_type, preset=choose_preset(presets, preset), overrides=overrides)
    context = TrainContext(choose_device(device), lambda stage: _watch(stage, tell), cache_dir(), tell)
    parents: dict[str, Run] = {}
    if isinstance(config, SftConfig):
        init_run = None if initial is None else initial.run
        parents |= choose_upstream(root, config, dict.fromkeys(STAGES), init_run, cache=context.cache, tell=tell)
    if initial is not None:
        parents["init"] = initial.run
    record = {"command": f"omnictl.train({stage!r}, preset={preset!r})", **versions_and_machine()}
    job = create_job(root, stage, config, name or preset, record, parents, cache=context.cache)
    deadline = None if max_minutes is None else began + 60 * max_minutes
    outcome = train_job(job, context, deadline=deadline, max_steps=max_steps)
    return TrainResult(job.run.path, outcome.status, outcome.steps, outcome.report)


def evaluate(
    run: str | Path,
    *,
    data: str | None = None,
    split: Split = "test",
    limit: int | None = None,
    judge: str | None = None,
    device: str = "auto",
    tell: Callable[[str], None] = print,
) -> Evaluation:
    """Judge a run, as `omnictl eval` does: metrics with intervals and controls, a verdict, and a page in the run.

    Args:
        run: its folder.
        data: other data than its own.
        split: `train`, `val` or `test`.
        limit: only so many examples.
        judge: who listens to what speaks: an `asr` run, or `pocketsphinx`; None: the newest recogniser.
        device: where to compute.
        tell: takes a line for people now and then.

    Raises:
        RunError: there is no such run, or no judge.
        CheckpointError: it has no whole model yet.
        DataError: the data cannot be read.
    """
    trained_run = Run(Path(run))
    return measure(trained_run, Measure(trained_run.root, judge, data, split, limit, choose_device(device), cache_dir(), tell))


def _format_setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class _Lines:
    """An observer that reports evaluations and notes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def begin(self, run: Run, facts: dict[str, str], step: int) -> None:  # noqa: ARG002
        """Report the run's folder."""
        self._tell(f"training in {run.path}")

    def step(self, record: StepRecord) -> None:
        """Report nothing: a step is not worth a line."""

    def evaluated(self, step: int, report: Report, *, is_best: bool) -> None:
        """Report the headline metric."""
        self._tell(f"step {step}: {report.headline} {report.value:.4f}{' (best so far)' if is_best else ''}")

    def note(self, text: str) -> None:
        """Report the line."""
        self._tell(text)


def _watch(stage: TrainableStage, tell: Callable[[str], None]) -> AbstractContextManager[Observer]:  # noqa: ARG001
    return nullcontext(_Lines(tell))
