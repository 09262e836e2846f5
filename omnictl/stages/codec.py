"""Stage D, first part: the codec learns to write speech in a few codes.

    loss = mean over bins of (x̂ − x)² + |x̂ − x|, per mel frame  +  β · commitment of its codes

x is the log-mel with zero mean and unit deviation in every bin. The codebooks follow the encoder by averages, not by gradient.
Source: Zeghidour et al. 2021 (SoundStream), without its adversary. Headline metric: `mel_mse`, the share of the features' variance
that is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field, model_validator

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.speech.batches.crops import CropBatches, Crops
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.source import first_utterances, open_recordings, pronunciation_of, take_statistics
from omnictl.evaluation.codec import Reconstruction, average_by_length
from omnictl.evaluation.talker import Judge
from omnictl.metrics.verdict import judge_codec
from omnictl.models.codec import Codec, CodecConfig, training_flops
from omnictl.nn.rvq import QuantiserConfig
from omnictl.runs.model_folder import read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig, train_with_adamw
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

START_BATCHES = 8
"""Batches whose frames the codebooks are initialised with."""

DECIBELS = 4.342944819
"""10 · log10 e: decibels per nat of power."""


class CodecRecipe(Config):
    """How the codec is trained."""

    model: CodecConfig = CodecConfig()
    crop_frames: int = Field(128, ge=1, le=1_000_000, description="mel frames of a training example")
    commitment: float = Field(0.25, ge=0, description="weight of what keeps the encoder near its codes")
    book_dropout: float = Field(0.0, ge=0, le=1, description="share of examples coded with fewer books, any number alike")
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _crops_fit(self) -> "CodecRecipe":
        stride = self.model.stride
        if self.crop_frames % stride:
            nearest = stride * max(1, round(self.crop_frames / stride))
            raise ValueError(f"crop_frames {self.crop_frames} must be a multiple of model.stride {stride}, such as {nearest}")
        return self


class CodecTraining(CodecRecipe):
    """Config of the codec's training."""

    data: SpeechDataConfig = SpeechDataConfig(voices="one")


PRESETS: Mapping[str, CodecTraining] = {
    "debug": CodecTraining(
        model=CodecConfig(width=32, layers=1, fine_layers=1, quantiser=QuantiserConfig(books=2, codes=16, width=8)),
        data=SpeechDataConfig(voices="one", num_utterances=32, num_eval_utterances=4),
        crop_frames=32,
        train=DEBUG_TRAINING,
    ),
    "tiny": CodecTraining(
        data=SpeechDataConfig(voices="one", num_utterances=4_000, num_eval_utterances=200),
        train=train_with_adamw(
            steps=700, batch_size=16, lr=1e-3, every=350, schedule=ScheduleConfig(warmup_steps=50, decay_fraction=0.5)
        ),
    ),
    "small": CodecTraining(
        model=CodecConfig(width=512, layers=6, fine_layers=4, quantiser=QuantiserConfig(books=8, codes=512, width=128)),
        data=SpeechDataConfig(voices="one", num_utterances=50_000, num_eval_utterances=1_000),
        book_dropout=0.5,
        train=train_with_adamw(steps=50_000, batch_size=64, lr=3e-4, every=2000, schedule=ScheduleConfig(warmup_steps=500)),
    ),
}


class CodecStage:
    """The codec, its recordings, its loss."""

    name: ClassVar[str] = "codec"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: CodecTraining, *, cache: Path) -> None:
        self.config = config
        torch.manual_seed(config.train.seed)
        self.model = Codec(config.model)
        self.data = open_recordings(config.data, config.model.mel, pronunciation_of(config.data), cache)

    @classmethod
    def create(cls, config: CodecTraining, *, context: StageContext) -> "CodecStage":
        """A fresh codec, or one that starts from another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        stage = cls(config, cache=context.cache)
        stage.data.check()
        if context.init is None:
            stage._start()
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "CodecStage":
        """The codec of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, CodecTraining, source=data)
        return cls(config, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights."""
        write_description(folder, self.name, self.config)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run, its features' statistics and codebooks too."""
        load_weights(run.model / "model.safetensors", self.model)

    def batches(self) -> CropBatches:
        """Crops of the training set."""
        if not self.model.quantiser.started:  # for a run that is resumed before its first checkpoint
            self._start()
        return self._crops()

    def _crops(self) -> CropBatches:
        return CropBatches(
            self.data.training_set,
            frames=self.config.crop_frames,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            books=self.config.model.quantiser.books,
            dropout=self.config.book_dropout,
        )

    @torch.no_grad()
    def _start(self) -> None:
        """Initialise the features' statistics, and the codebooks with the encoder's frames."""
        take_statistics(self.model, self.data.training_set)
        crops = self._crops()
        batches = (crops.collate(crops.ids(step)).mel.to(self.model.mean.device) for step in range(START_BATCHES))
        frames = torch.cat([self.model.encoder(self.model.normalise(mel)) for mel in batches])
        self.model.quantiser.start(frames.flatten(0, 1), torch.Generator().manual_seed(self.config.train.seed))

    def loss(self, batch: Crops) -> LossSum:
        """Squared and absolute errors of the reconstruction and the codes' commitment, counted in mel frames."""
        mel, books = batch.mel.to(self.model.mean.device), batch.books.to(self.model.mean.device)
        coded = self.model(mel, books)
        error = coded.mel - self.model.normalise(mel)
        squared, absolute = error.square().mean(-1).sum(), error.abs().mean(-1).sum()
        commitment = coded.commitment.sum() * self.config.model.stride
        count = mel.shape[0] * mel.shape[1]
        scalars = {"mel_mse": squared.detach(), "commitment": commitment.detach()}
        return LossSum(squared + absolute + self.config.commitment * commitment, count, scalars)

    def work(self, batch: Crops) -> Work:
        """Seconds of audio and floating-point operations of a training step on this batch."""
        frames = batch.mel.shape[0] * batch.mel.shape[1]
        return Work(frames / self.config.model.mel.frames_hz, training_flops(self.model, frames), frames, frames)

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass with as many frames as the longest utterance, which an evaluation takes whole."""
        return (pass_of(self, batches, int(self.data.training_set.lengths().max())),)

    def validate(self) -> Report:
        """Reconstruction error on the validation split, and how much of the codebooks is used."""
        utterances = self.data.split("val")
        reproduced = self._reproduce(utterances, self.config.model.quantiser.books)
        return Report("mel_mse", "lower", reproduced.rates(utterances.lengths().tolist()), len(utterances))

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """Error on a split or its first `limit` utterances, with all books and with the first ones; each book's use."""
        utterances = first_utterances(self.data.split(split), limit)
        lengths = utterances.lengths().tolist()
        books = range(1, self.config.model.quantiser.books + 1)
        reconstructions = {number: self._reproduce(utterances, number) for number in books}
        whole = reconstructions[books[-1]]
        mean_frame = average_by_length(self._variances(utterances), lengths)
        estimates = {
            "mel_mse": average_by_length(whole.errors, lengths).against("mel_mse_mean_frame", mean_frame, "lower"),
            "log_spectral_distance_db": average_by_length(whole.decibels, lengths),
        }
        return Report(
            "mel_mse",
            "lower",
            {**whole.rates(lengths), "bits_per_second": self.config.model.bits_per_second},
            len(utterances),
            controls={"mel_mse_mean_frame": mean_frame.value},
            predictions=[
                {"id": row.id, "task": "reproduce", "reference": row.text, "prediction": None, "mel_mse": error}
                for row, error in zip(utterances.recordings, whole.errors, strict=True)
            ],
            estimates=estimates,
            verdict=judge_codec(estimates),
            groups={
                f"{number} books": {**reconstructions[number].rates(lengths), **reconstructions[number].last_book()}
                for number in books
            },
        )

    def _variances(self, utterances: SpeechSet) -> list[float]:
        """The error, for each utterance, of a codec that always returns the average frame."""
        mels = (torch.from_numpy(utterances.features(index)).to(self.model.mean.device) for index in range(len(utterances)))
        return [float(self.model.normalise(mel).square().mean()) for mel in mels]

    @torch.no_grad()
    def _reproduce(self, utterances: SpeechSet, books: int) -> Reconstruction:
        self.model.eval()
        shape = self.config.model.quantiser
        counts = torch.zeros(books, shape.codes, dtype=torch.float64)
        errors, decibels = [], []
        for index in range(len(utterances)):
            mel = torch.from_numpy(utterances.features(index)).to(self.model.mean.device)
            codes = self.model.encode(mel[None])[:, :books]
            back = self.model.decode(codes)[0, : len(mel)]
            errors.append(float(((back - mel) / self.model.std).square().mean()))
            decibels.append(DECIBELS * float((back - mel).square().mean(-1).sqrt().mean()))
            for book in range(books):
                counts[book] += torch.bincount(codes[0, book].cpu(), minlength=shape.codes)
        return Reconstruction(errors, decibels, counts)


STAGE: type[TrainableStage] = CodecStage


def open_codec(folder: Path, cache: Path) -> Codec:
    """The codec of a model folder, frozen, for what is built on it.

    Raises:
        CheckpointError: it holds no complete codec.
    """
    codec = CodecStage.open(folder, data=None, cache=cache).model
    load_weights(folder / "model.safetensors", codec)
    return codec.eval().requires_grad_(requires_grad=False)
