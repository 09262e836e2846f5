"""Stage D, second part: the aligner learns how long each symbol of a text is spoken.

    loss = −Σ ln p(text | audio) ÷ number of frames,   p = Σ over all monotonic paths through the text (forward sum)

Source: Badlani et al. 2022. Headline metric: `loss` in nats a frame of 20 ms, beside the mean of −ln p along the likeliest path,
and, as a control, along the path that gives every symbol the same time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.speech.batches.utterances import SpeechBatch, SpeechBatches, evaluation_batches
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.source import Recordings, first_utterances, open_recordings, pronunciation_of, take_statistics
from omnictl.data.speech.transcripts.targets import CharacterTargets
from omnictl.data.speech.transcripts.transcript import ALPHABET
from omnictl.errors import ConfigError
from omnictl.evaluation.aligner import AlignmentScores, UtteranceScores
from omnictl.evaluation.talker import Judge
from omnictl.features.recogniser_durations import Alignment, Durations, spread_durations
from omnictl.generate.ctc_search import align
from omnictl.metrics.verdict import judge_aligner
from omnictl.models.aligner import STRIDE, Aligner, AlignerConfig, AlignerOutput, durations, training_flops
from omnictl.nn.audio.mel import MelConfig
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.losses.ctc import min_frames
from omnictl.nn.losses.monotonic import forward_sum_nats
from omnictl.runs.files import read_json
from omnictl.runs.model_folder import read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.asr import EVALUATION_FRAMES, Asr
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig, train_with_adamw
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
        train=train_with_adamw(
            steps=300, batch_size=16, lr=2e-3, every=150, schedule=ScheduleConfig(warmup_steps=30, decay_fraction=0.5)
        ),
    ),
    "small": AlignerTraining(
        model=AlignerConfig(width=256, layers=4),
        data=SpeechDataConfig(voices="one", num_utterances=50_000, num_eval_utterances=1_000, time_mask=0.0, frequency_mask=0),
        train=train_with_adamw(steps=10_000, batch_size=32, lr=1e-3, every=1000, schedule=ScheduleConfig(warmup_steps=200)),
    ),
}


class AlignerStage:
    """The aligner, its recordings, its loss."""

    name: ClassVar[str] = "aligner"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: AlignerTraining, *, cache: Path) -> None:
        self.config = config
        torch.manual_seed(config.train.seed)
        self.model = Aligner(config.model, pronunciation_of(config.data).num_symbols)
        self.data = open_alignable(config.data, config.model.mel, cache)

    @classmethod
    def create(cls, config: AlignerTraining, *, context: StageContext) -> "AlignerStage":
        """A fresh aligner, or one that starts from another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        stage = cls(config, cache=context.cache)
        stage.data.check()
        take_statistics(stage.model, stage.data.training_set)
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "AlignerStage":
        """The aligner of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, AlignerTraining, source=data)
        return cls(config, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights."""
        write_description(folder, self.name, self.config)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run, but not its features' statistics: those are of other recordings."""
        own = self.model.state_dict()
        load_weights(run.model / "model.safetensors", self.model, lambda weights: weights | {n: own[n] for n in ("mean", "std")})

    def batches(self) -> SpeechBatches:
        """Utterances of similar length."""
        take_statistics(self.model, self.data.training_set)  # a run that is resumed before its first checkpoint has none yet
        config = self.config
        return SpeechBatches(self.data.training_set, config.data, batch_size=config.train.batch_size, seed=config.train.seed)

    def align(self, batch: SpeechBatch) -> AlignerOutput:
        """How audio and texts of a batch align."""
        device = self.model.mean.device
        output: AlignerOutput = self.model(
            batch.features.to(device), batch.lengths.to(device), batch.targets.to(device), batch.target_lengths.to(device)
        )
        return output

    def loss(self, batch: SpeechBatch) -> LossSum:
        """The forward sum in nats, counted in frames of 20 ms."""
        output = self.align(batch)
        nats = forward_sum_nats(output.log_probs, output.lengths, batch.target_lengths)
        return LossSum(nats.sum(), int(output.lengths.sum()), {})

    def work(self, batch: SpeechBatch) -> Work:
        """Seconds of audio and floating-point operations of a training step on this batch, padding not counted."""
        frames = int(batch.lengths.sum())
        return Work(
            units=frames / self.config.model.mel.frames_hz,
            flops=training_flops(self.model, batch.lengths, batch.target_lengths),
            positions=frames,
            slots=batch.features.shape[0] * batch.features.shape[1],
        )

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass as large as an evaluation batch: many utterances are aligned at once."""
        return (pass_of(self, batches, ALIGNED_FRAMES),)

    def validate(self) -> Report:
        """How well audio and texts of the validation split fit."""
        utterances = self.data.split("val")
        return Report("loss", "lower", self._judge(utterances).rates(), len(utterances))

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """How well audio and texts of a split fit, against equal times for all symbols; with every duration."""
        utterances = first_utterances(self.data.split(split), limit)
        judged = self._judge(utterances)
        times, estimates = self.durations(utterances), judged.estimates()
        return Report(
            "loss",
            "lower",
            judged.rates(),
            len(utterances),
            controls={"path_nats_uniform": judged.uniform / judged.frames, "path_nats_guessed": judged.guessed().value},
            estimates=estimates,
            verdict=judge_aligner(estimates),
            predictions=[
                {"id": row.id, "task": "align", "reference": text, "prediction": [round(int(t) * STRIDE / 100, 2) for t in time]}
                for row, text, time in zip(utterances.recordings, utterances.texts, times, strict=True)
            ],
        )

    @torch.no_grad()
    def durations(self, utterances: SpeechSet) -> list[NDArray[np.int64]]:
        """Frames at 50 Hz of every symbol of each utterance's text, edges included."""
        self.model.eval()
        times: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(utterances)
        for indices, batch in evaluation_batches(utterances, ALIGNED_FRAMES):
            for index, time in zip(indices, durations(self.align(batch), batch.target_lengths), strict=True):
                times[index] = time
        return times

    @torch.no_grad()
    def _judge(self, utterances: SpeechSet) -> AlignmentScores:
        self.model.eval()
        sums = AlignmentScores(0.0, 0.0, 0.0, 0, ())
        for _, batch in evaluation_batches(utterances, ALIGNED_FRAMES):
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


STAGE: type[TrainableStage] = AlignerStage


def open_alignable(config: SpeechDataConfig, mel: MelConfig, cache: Path) -> Recordings:
    """Recordings that are read aloud word by word, with those too short for their text set aside."""
    return open_recordings(config, mel, pronunciation_of(config), cache, trainable=alignable, judgeable=alignable)


def alignable(utterances: SpeechSet) -> SpeechSet:
    """The utterances with a frame for every symbol, the others set aside with the reason."""
    reasons = {}
    for index, (frames, target) in enumerate(zip(utterances.lengths().tolist(), utterances.targets, strict=True)):
        if -(-frames // STRIDE) < len(target):
            reasons[index] = f"too short for its text: {-(-frames // STRIDE)} frames of 20 ms for {len(target)} symbols"
    return utterances.without(reasons)


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


def open_alignment(folder: Path, device: torch.device, cache: Path) -> Alignment:
    """The aligner or the recogniser of a model folder.

    Raises:
        CheckpointError: it holds neither, or no weights.
        ConfigError: a recogniser that does not spell characters.
    """
    stage: AlignerStage | Asr
    if read_json(folder / "config.json").get("stage") == Asr.name:
        stage = Asr.open(folder, data=None, cache=cache)
    else:
        stage = AlignerStage.open(folder, data=None, cache=cache)
    load_weights(folder / "model.safetensors", stage.model)
    stage.model.to(device).eval()
    return RecogniserAlignment(stage) if isinstance(stage, Asr) else stage


class RecogniserAlignment:
    """Durations from a recogniser's forced alignment (Graves et al. 2006, the likeliest path).

    Raises:
        ConfigError: it does not spell characters.
    """

    def __init__(self, recogniser: Asr) -> None:
        if recogniser.config.targets.kind != "characters":
            raise ConfigError(
                f"this recogniser spells {recogniser.config.targets.kind}, durations are those of characters",
                where="--aligner",
                fix="name an `asr` run with targets.kind=characters, or leave --aligner out: one is learned then",
            )
        self.recogniser = recogniser

    @torch.no_grad()
    def durations(self, utterances: SpeechSet) -> Durations:
        """Frames at 50 Hz of every symbol; where the letters do not fit into the recogniser's frames, all last equally long."""
        model = self.recogniser.config.model
        assert model.emissions != "auto"
        scale = SUBSAMPLING / STRIDE / model.emissions  # frames at 50 Hz of an emission
        lengths = [-(-int(length) // STRIDE) for length in utterances.lengths()]
        times: Durations = [np.empty(0, np.int64)] * len(utterances)
        for indices, batch in evaluation_batches(utterances, EVALUATION_FRAMES):
            encoded = self.recogniser.encode(batch)
            for row, index in enumerate(indices):
                log_probs = encoded.frames[row, : encoded.lengths[row]].float().log_softmax(-1).cpu()
                text = utterances.texts[index]
                letters = [place for place, symbol in enumerate(text) if symbol in ALPHABET]
                ids = CharacterTargets().encode("".join(text[place] for place in letters))
                spans = align(log_probs, ids) if min_frames(ids) <= len(log_probs) else None
                times[index] = spread_durations(letters, spans, len(text), lengths[index], scale)
        return times
