"""Stage D, second part: the aligner learns how long each symbol of a text is spoken.

    loss = −Σ ln p(text | sound) ÷ number of frames,   p = Σ over all monotonic paths through the text (forward sum)

Source: Badlani et al. 2022. Headline metric: `loss` in nats a frame of 20 ms, beside the mean of −ln p along the likeliest path,
and, as a control, along the path that gives every symbol the same time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl import __version__
from omnictl.config import Config, to_dict
from omnictl.config.split import Split
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.speech.batches.utterances import SpeechBatch, SpeechBatches, evaluation_batches
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.metrics.intervals import Estimate, ratio
from omnictl.metrics.verdict import judge_aligner
from omnictl.models.aligner import STRIDE, Aligner, AlignerConfig, AlignerOutput, durations, training_flops
from omnictl.nn.losses.monotonic import forward_sum_nats
from omnictl.runs.model_folder import read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.recordings import Recordings
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

ALIGNED_FRAMES = 24_000
"""Mel frames aligned at a time."""


class AlignerRecipe(Config):
    """How the aligner is trained."""

    model: AlignerConfig = AlignerConfig()
    train: TrainConfig = TrainConfig()


class AlignerTraining(AlignerRecipe):
    """Config of the aligner's training."""

    data: SpeechDataConfig = SpeechDataConfig(voices="one", time_mask=0.0, frequency_mask=0)


PRESETS: Mapping[str, AlignerTraining] = {
    "debug": AlignerTraining(
        model=AlignerConfig(width=32, layers=1),
        data=SpeechDataConfig(voices="one", num_utterances=32, num_eval_utterances=4, time_mask=0.0, frequency_mask=0),
        train=DEBUG_TRAINING,
    ),
    "tiny": AlignerTraining(
        data=SpeechDataConfig(voices="one", num_utterances=4_000, num_eval_utterances=200, time_mask=0.0, frequency_mask=0),
        train=TrainConfig(
            steps=600,
            batch_size=16,
            optimizer="adamw",
            lr=2e-3,
            weight_decay=0.01,
            eval_every=300,
            save_every=300,
            schedule=ScheduleConfig(warmup_steps=30, decay_fraction=0.5),
        ),
    ),
    "small": AlignerTraining(
        model=AlignerConfig(width=256, layers=4),
        data=SpeechDataConfig(voices="one", num_utterances=50_000, num_eval_utterances=1_000, time_mask=0.0, frequency_mask=0),
        train=TrainConfig(
            steps=10_000,
            batch_size=32,
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.01,
            eval_every=1000,
            save_every=1000,
            schedule=ScheduleConfig(warmup_steps=200),
        ),
    ),
}


class UtteranceScores(NamedTuple):
    """How well the audio and the text of one utterance fit, in nats."""

    nats: float
    path: float
    frames: int
    symbols: int


class AlignmentScores(NamedTuple):
    """How well a split's sounds and texts fit, in nats."""

    nats: float  # of the forward sum
    path: float  # along the likeliest path
    uniform: float  # along the path of equal times
    frames: int
    utterances: tuple["UtteranceScores", ...]

    def rates(self) -> dict[str, float]:
        """The metrics, a frame."""
        return {"loss": self.nats / self.frames, "path_nats": self.path / self.frames}

    def guessed(self) -> Estimate:
        """What a path costs a frame that guesses every symbol of the text alike."""
        return ratio([one.frames * math.log(one.symbols) for one in self.utterances], [one.frames for one in self.utterances])

    def estimates(self) -> dict[str, Estimate]:
        """The metrics with their intervals over utterances, the path's compared with a guess."""
        frames = [one.frames for one in self.utterances]
        path = ratio([one.path for one in self.utterances], frames)
        return {
            "loss": ratio([one.nats for one in self.utterances], frames),
            "path_nats": path.against("path_nats_guessed", self.guessed(), "lower"),
        }


class AlignerStage:
    """The aligner, its recordings, its loss."""

    name: ClassVar[str] = "aligner"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()
    config_type: ClassVar[type[AlignerTraining]] = AlignerTraining
    presets: ClassVar[Mapping[str, AlignerTraining]] = PRESETS

    def __init__(self, config: AlignerTraining, *, cache: Path) -> None:
        self.config = config
        torch.manual_seed(config.train.seed)
        self.model = Aligner(config.model, ReadAloud.num_symbols)
        self.recordings = Recordings(config.data, config.model.mel, ReadAloud(), cache, usable=alignable)

    @classmethod
    def create(cls, config: AlignerTraining, *, cache: Path, init: Run | None = None) -> "AlignerStage":
        """A fresh aligner, or one that starts from another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            CheckpointError: the other run has no whole model, or one of another shape.
        """
        stage = cls(config, cache=cache)
        stage.recordings.check()
        stage._take_statistics()
        if init is not None:
            stage.take_weights(init)
        return stage

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "AlignerStage":
        """The aligner of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, AlignerTraining)
        if data is not None:
            config = config.model_copy(update={"data": config.data.model_copy(update={"source": data, "holdout_speakers": ()})})
        return cls(config, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds beside the weights."""
        write_description(folder, self.name, omnictl=__version__, config=to_dict(self.config))

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run, but not its features' statistics: those are of other recordings.

        Raises:
            CheckpointError: it has no whole model, or one of another shape.
        """
        own = self.model.state_dict()
        load_weights(run.model / "model.safetensors", self.model, lambda weights: weights | {n: own[n] for n in ("mean", "std")})

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows that are neither trained nor validated on, each with the reason."""
        return self.recordings.quarantine

    def _take_statistics(self) -> None:
        mean, std = self.recordings.statistics
        self.model.mean.copy_(mean)
        self.model.std.copy_(std)

    def batches(self) -> SpeechBatches:
        """Utterances of similar length."""
        self._take_statistics()  # of a run that is taken up before its first checkpoint, whose weights hold none yet
        return SpeechBatches(
            self.recordings.training_set,
            self.config.data,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            fill=self.recordings.statistics[0].numpy(),
        )

    def align(self, batch: SpeechBatch) -> AlignerOutput:
        """How sounds and texts of a batch meet."""
        device = self.model.mean.device
        found: AlignerOutput = self.model(
            batch.features.to(device), batch.lengths.to(device), batch.targets.to(device), batch.target_lengths.to(device)
        )
        return found

    def loss(self, batch: SpeechBatch) -> LossSum:
        """The forward sum in nats, counted in frames of 20 ms."""
        found = self.align(batch)
        nats = forward_sum_nats(found.log_probs, found.lengths, batch.target_lengths)
        return LossSum(nats.sum(), int(found.lengths.sum()), {})

    def work(self, batch: SpeechBatch) -> Work:
        """Seconds of sound and floating-point operations of a training step on this batch, padding not counted."""
        frames = int(batch.lengths.sum())
        return Work(
            units=frames / self.config.model.mel.frames_hz,
            flops=training_flops(self.model, batch.lengths, batch.target_lengths),
            positions=frames,
            slots=batch.features.shape[0] * batch.features.shape[1],
        )

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """See `Stage`: many utterances are aligned at once."""
        return (pass_of(self, batches, ALIGNED_FRAMES),)

    def validate(self) -> Report:
        """How well the validation split's sounds and texts fit."""
        found = self.recordings.split("val")
        return Report("loss", "lower", self._judge(found).rates(), len(found))

    def evaluate(self, split: Split, *, limit: int | None) -> Report:
        """How well a split's sounds and texts fit, against equal times for all symbols; with every duration."""
        found = self.recordings.split(split)
        found = found.only(range(min(limit or len(found), len(found))), ())
        judged = self._judge(found)
        times, estimates = self.durations(found), judged.estimates()
        return Report(
            "loss",
            "lower",
            judged.rates(),
            len(found),
            controls={"path_nats_uniform": judged.uniform / judged.frames, "path_nats_guessed": judged.guessed().value},
            estimates=estimates,
            verdict=judge_aligner(estimates),
            predictions=[
                {"id": row.id, "task": "align", "reference": text, "prediction": [round(int(t) * STRIDE / 100, 2) for t in time]}
                for row, text, time in zip(found.recordings, found.texts, times, strict=True)
            ],
        )

    @torch.no_grad()
    def durations(self, found: SpeechSet) -> list[NDArray[np.int64]]:
        """Frames at 50 Hz of every symbol of each utterance's text, edges included."""
        self.model.eval()
        times: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(found)
        for indices, batch in evaluation_batches(found, ALIGNED_FRAMES):
            for index, time in zip(indices, durations(self.align(batch), batch.target_lengths), strict=True):
                times[index] = time
        return times

    @torch.no_grad()
    def _judge(self, found: SpeechSet) -> AlignmentScores:
        self.model.eval()
        sums = AlignmentScores(0.0, 0.0, 0.0, 0, ())
        for _, batch in evaluation_batches(found, ALIGNED_FRAMES):
            aligned = self.align(batch)
            nats = forward_sum_nats(aligned.log_probs, aligned.lengths, batch.target_lengths)
            times = durations(aligned, batch.target_lengths)
            equal = [_equal_times(int(frames), len(time)) for frames, time in zip(aligned.lengths, times, strict=True)]
            paths = _along(aligned.log_probs, times)
            rows = zip(nats.tolist(), paths, aligned.lengths.tolist(), batch.target_lengths.tolist(), strict=True)
            sums = AlignmentScores(
                sums.nats + float(nats.sum()),
                sums.path - sum(paths),
                sums.uniform - sum(_along(aligned.log_probs, equal)),
                sums.frames + int(aligned.lengths.sum()),
                (*sums.utterances, *(UtteranceScores(loss, -path, frames, symbols) for loss, path, frames, symbols in rows)),
            )
        return sums


def alignable(found: SpeechSet) -> SpeechSet:
    """The utterances with a frame for every symbol, the others set aside with the reason."""
    reasons = {}
    for index, (frames, target) in enumerate(zip(found.lengths().tolist(), found.targets, strict=True)):
        if -(-frames // STRIDE) < len(target):
            reasons[index] = f"too short for its text: {-(-frames // STRIDE)} frames of 20 ms for {len(target)} symbols"
    keep = [index for index in range(len(found)) if index not in reasons]
    rows = ((found.recordings[index], reason) for index, reason in reasons.items())
    return found.only(keep, (BrokenRow(recording.id, recording.where, reason) for recording, reason in rows))


def _equal_times(frames: int, symbols: int) -> NDArray[np.int64]:
    bounds = np.linspace(0, frames, symbols + 1).round().astype(np.int64)
    return bounds[1:] - bounds[:-1]


def _along(log_probs: Tensor, times: Sequence[NDArray[np.int64]]) -> list[float]:
    """Sums of ln p along paths given by durations."""
    sums = []
    for row, time in zip(log_probs, times, strict=True):
        owner = torch.from_numpy(np.repeat(np.arange(len(time)), time)).to(row.device)
        sums.append(float(row[torch.arange(len(owner), device=row.device), owner].sum()))
    return sums
