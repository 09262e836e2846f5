"""Stage D, an optional part: a neural vocoder learns to make audio from the codec's mel frames.

    loss = spectral distance of synthesised and recorded audio, several resolutions  +  w · mean |difference of their log-mels|

It reads what the codec gives back, not the recordings' own frames, so that it makes up for what the codec smooths away. Source:
Siuzdak 2023 (Vocos), without its adversary. Headline metric: `spectral_distance` on the validation split, beside Griffin-Lim's.

    omnictl talker --set vocoder=istft
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.audio.resample import resample
from omnictl.data.speech.batches.crops import AudioCropBatches, AudioCrops
from omnictl.data.speech.corpus import Samples, SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.source import first_utterances, open_recordings, pronunciation_of, read_recordings
from omnictl.evaluation.talker import Judge
from omnictl.generate.griffin_lim import GriffinLim, Neural, Vocoder, synthesise
from omnictl.metrics.intelligibility import RATE, quality, quality_estimates
from omnictl.metrics.intervals import mean
from omnictl.metrics.verdict import judge_vocoder
from omnictl.models.vocoder import NeuralVocoder, VocoderConfig, training_flops
from omnictl.nn.audio.mel import at_feature_level, filterbank
from omnictl.nn.losses.spectral import magnitudes, spectral_distance
from omnictl.runs.model_folder import copy_parts, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.codec import open_codec
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig, train_with_adamw
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

MOST_SECONDS = 3600.0
"""Seconds of recordings to learn from; they are held in memory, 290 MB an hour."""

UNTRAINED = "spectral_distance_untrained"
"""The control: a vocoder that has learned nothing, but whose design gives audio of about the right loudness."""

VALIDATED = 32
"""Utterances judged while training."""


class VocoderRecipe(Config):
    """How the vocoder is trained."""

    model: VocoderConfig = VocoderConfig()
    crop_frames: int = Field(64, ge=8, le=1_000_000, description="mel frames of a training example")
    mel_weight: float = Field(1.0, ge=0, description="weight of the log-mels' difference")
    train: TrainConfig = TrainConfig()


class VocoderTraining(VocoderRecipe):
    """Config of the vocoder's training."""

    data: SpeechDataConfig = SpeechDataConfig(voices="one")


PRESETS: Mapping[str, VocoderTraining] = {
    "debug": VocoderTraining(
        model=VocoderConfig(width=32, hidden=48, layers=1),
        data=SpeechDataConfig(voices="one", num_utterances=32, num_eval_utterances=4),
        crop_frames=24,
        train=DEBUG_TRAINING,
    ),
    "tiny": VocoderTraining(
        data=SpeechDataConfig(voices="one", num_utterances=4_000, num_eval_utterances=200),
        train=train_with_adamw(
            steps=4000, batch_size=16, lr=1e-3, every=1000, schedule=ScheduleConfig(warmup_steps=50, decay_fraction=0.7)
        ),
    ),
    "small": VocoderTraining(
        model=VocoderConfig(width=384, hidden=1152, layers=8),
        data=SpeechDataConfig(voices="one", num_utterances=50_000, num_eval_utterances=1_000),
        train=train_with_adamw(steps=100_000, batch_size=32, lr=5e-4, every=5000, schedule=ScheduleConfig(warmup_steps=500)),
    ),
}


class VocoderStage:
    """The vocoder, the codec whose frames it reads, its recordings, its loss."""

    name: ClassVar[str] = "vocoder"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("codec",)

    def __init__(self, config: VocoderTraining, parts: Mapping[str, Path], *, cache: Path) -> None:
        self.config, self.parts = config, parts
        self.codec = open_codec(parts["codec"], cache)
        torch.manual_seed(config.train.seed)
        self.model = NeuralVocoder(config.model)
        self.data = open_recordings(config.data, config.model.mel, pronunciation_of(config.data), cache)

    @classmethod
    def create(cls, config: VocoderTraining, *, context: StageContext) -> "VocoderStage":
        """A fresh vocoder for the codec upstream, or one with another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            CheckpointError: the codec's folder holds no complete model, or the other run one of another shape.
        """
        stage = cls(config, context.upstream, cache=context.cache)
        stage.data.check()
        stage._take_statistics()
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "VocoderStage":
        """The vocoder of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, VocoderTraining, source=data)
        return cls(config, {name: folder / name for name in cls.needs}, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights, the codec among it: it needs no other run."""
        write_description(folder, self.name, self.config)
        copy_parts(folder, self.parts)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of the same shape."""
        load_weights(run.model / "model.safetensors", self.model)

    def _take_statistics(self) -> None:
        self.model.mean.copy_(self.codec.mean)
        self.model.std.copy_(self.codec.std)

    def batches(self) -> AudioCropBatches:
        """Crops of the training set's first hour."""
        self._take_statistics()  # for a run that is resumed before its first checkpoint
        train = self.config.train
        mels, recordings = self._training_audio
        return AudioCropBatches(
            mels,
            recordings,
            [recording.where for recording in self.data.training_set.recordings[: len(mels)]],
            hop=self.config.model.mel.hop,
            frames=self.config.crop_frames,
            batch_size=train.batch_size,
            seed=train.seed,
        )

    @cached_property
    def _training_audio(self) -> tuple[list[NDArray[np.float16]], list[Samples]]:
        utterances = self.data.training_set
        seconds = np.cumsum(utterances.lengths()) / self.config.model.mel.frames_hz
        utterances = utterances.select(range(max(1, int(np.searchsorted(seconds, MOST_SECONDS)))), ())
        mels = [self.reconstruct(utterances, index).numpy().astype(np.float16) for index in range(len(utterances))]
        return mels, self.recordings("train", utterances)

    def recordings(self, split: Split, utterances: SpeechSet) -> list[Samples]:
        """The recordings `(n,)` of a set, as loud as audio that is made from features."""
        mel = self.config.model.mel
        recordings = read_recordings(self.data.corpus, split, utterances, mel.sample_rate)
        return [at_feature_level(recording, mel) for recording in recordings]

    @torch.no_grad()
    def reconstruct(self, utterances: SpeechSet, index: int) -> Tensor:
        """Log-mels `(T, F)` of an utterance as the codec gives them back, on the CPU."""
        mel = torch.from_numpy(utterances.features(index)).to(self.codec.mean.device)
        return self.codec.decode(self.codec.encode(mel[None]))[0, : len(mel)].cpu()

    def loss(self, batch: AudioCrops) -> LossSum:
        """Distances of synthesised and recorded audio, counted in crops."""
        device = self.model.mean.device
        made = self.model(batch.mel.to(device))
        wanted = batch.samples.to(made)
        with torch.autocast(device.type, enabled=False):
            spectral, mel = spectral_distance(made, wanted).sum(), self._mel_distance(made, wanted).sum()
        return LossSum(spectral + self.config.mel_weight * mel, len(made), {"spectral_distance": spectral.detach()})

    def _mel_distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Mean absolute difference of log-mels `(B,)` of audio `(B, n)`."""
        mel = self.config.model.mel
        bank = filterbank(mel).to(made)
        made_mel, wanted_mel = (bank.T @ magnitudes(samples, mel.fft, mel.hop).square() for samples in (made, wanted))
        return (made_mel.log() - wanted_mel.log()).abs().mean((1, 2)) / 2  # as magnitudes

    def work(self, batch: AudioCrops) -> Work:
        """Seconds of audio and floating-point operations of a training step on this batch."""
        frames = batch.mel.shape[0] * batch.mel.shape[1]
        return Work(frames / self.config.model.mel.frames_hz, training_flops(self.model, frames), frames, frames)

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass with as many frames as the longest utterance, which an evaluation takes whole."""
        return (pass_of(self, batches, int(self.data.training_set.lengths().max())),)

    def validate(self) -> Report:
        """How far the audio made for the validation split is from the recordings."""
        utterances = first_utterances(self.data.split("val"), VALIDATED)
        with torch.autocast(self.model.mean.device.type, enabled=False):
            distance = _distance(self._synthesise(Neural(self.model.eval()), utterances), self.recordings("val", utterances))
        return Report("spectral_distance", "lower", {"spectral_distance": distance}, len(utterances))

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """How far the audio made for a split or its first `limit` utterances is from the recordings, beside Griffin-Lim's."""
        utterances = first_utterances(self.data.split(split), limit)
        wanted = self.recordings(split, utterances)
        made = {
            "": self._synthesise(Neural(self.model.eval()), utterances),
            "_griffin_lim": self._synthesise(GriffinLim(self.config.model.mel), utterances),
        }
        distances = {f"spectral_distance{kind}": mean(_distances(audio, wanted)) for kind, audio in made.items()}
        untrained = mean(_distances(self._synthesise(Neural(self._untrained()), utterances), wanted))
        estimates = {name: one.against(UNTRAINED, untrained, "lower") for name, one in distances.items()}
        for kind, audio in made.items():
            scores = [self._quality(one, other) for one, other in zip(wanted, audio, strict=True)]
            estimates |= {f"{name}{kind}": one for name, one in quality_estimates(scores).items()}
        return Report(
            "spectral_distance",
            "lower",
            {name: one.value for name, one in estimates.items()},
            len(utterances),
            controls={UNTRAINED: untrained.value},
            estimates=estimates,
            verdict=judge_vocoder(estimates),
        )

    def _untrained(self) -> NeuralVocoder:
        device = self.model.mean.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.config.train.seed + 1)  # not the weights that training began with
            fresh = NeuralVocoder(self.config.model).to(device).eval()
        fresh.mean.copy_(self.model.mean)
        fresh.std.copy_(self.model.std)
        return fresh

    def _synthesise(self, vocoder: Vocoder, utterances: SpeechSet) -> list[Samples]:
        return [synthesise(vocoder, self.reconstruct(utterances, index)) for index in range(len(utterances))]

    def _quality(self, wanted: Samples, made: Samples) -> dict[str, float]:
        rate = self.config.model.mel.sample_rate
        return quality(resample(wanted, rate, RATE), resample(made, rate, RATE))


STAGE: type[TrainableStage] = VocoderStage


def _distance(made: Sequence[Samples], wanted: Sequence[Samples]) -> float:
    """Mean spectral distance of two lists of audio, pair by pair; the longer of a pair is cut."""
    return sum(_distances(made, wanted)) / len(made)


def _distances(made: Sequence[Samples], wanted: Sequence[Samples]) -> list[float]:
    """The spectral distance of each pair."""
    distances = []
    for one, other in zip(made, wanted, strict=True):
        length = min(len(one), len(other))
        distances.append(float(spectral_distance(torch.from_numpy(one[None, :length]), torch.from_numpy(other[None, :length]))))
    return distances
