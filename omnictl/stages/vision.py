"""Stage C: the vision encoder learns to tell images apart.

    classes:      loss = −Σ_a ln p(value of attribute a | image) − mean over patches of Σ_a ln p(value of a | patch)
    contrastive:  loss = −½ [ln p(caption | image, batch) + ln p(image | caption, batch)]

with label smoothing (Szegedy et al. 2016) in the first, a learned temperature (Radford et al. 2021, CLIP) in the second. Patches
are supervised where it is known what they show, as in TinyWorld: what later asks about several objects finds them told apart.
Headline metric: `top1`, how often the class is right, by the heads or, after contrastive training, by prompts (zero-shot).

    omnictl vision --preset tiny [--data my/images]
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.images.batches import UNKNOWN, ImageBatch, ImageBatches, LabelEncoder, evaluation_batches
from omnictl.data.images.corpus import ImageCorpus, ImageDataConfig, ImageSet, Pixels, View
from omnictl.data.images.source import fingerprint_images, open_images
from omnictl.data.images.tinyworld import ENDLESS, class_prompts
from omnictl.data.manifest.data_gate import DataGate
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import DataError
from omnictl.evaluation.retrieval import HEADLINE, SharedSpace, retrieval_rates, retrieval_report
from omnictl.evaluation.talker import Judge
from omnictl.evaluation.vision import (
    SAMPLES,
    Classes,
    ClassificationResult,
    Float32,
    ImagePredictions,
    Int64,
    attribute_estimates,
    class_rates,
    classification_report,
    joint,
    named_rates,
    patch_estimates,
    validation_report,
)
from omnictl.features.media_encoders import MediaEncoder, VisionFrontend
from omnictl.features.zero_shot import MAX_CAPTION_TOKENS, CaptionReader
from omnictl.metrics.verdict import judge_vision
from omnictl.models.caption_encoder import CaptionEncoder, CaptionEncoderConfig
from omnictl.models.vision_encoder import VisionEncoder, VisionEncoderConfig, VisionOutput, training_flops
from omnictl.nn.arithmetic import multiplied_weights
from omnictl.nn.losses.contrastive import contrastive_sum
from omnictl.runs.model_folder import read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.image_labels import ImageLabels
from omnictl.stages.protocol import StageContext, TrainableStage, open_model
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, RuntimeConfig, ScheduleConfig, TrainConfig
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

EVALUATION_IMAGES = 128
"""Images that are judged at a time."""

logger = logging.getLogger(__name__)


class VisionConfig(Config):
    """Config of stage C."""

    model: VisionEncoderConfig = VisionEncoderConfig()
    data: ImageDataConfig = ImageDataConfig()
    objective: Literal["classes", "contrastive"] = Field(
        "classes", description="classes: learn labels; contrastive: learn which caption belongs to which image"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target that all values of an attribute have alike")
    patch_weight: float = Field(4.0, ge=0, description="weight of what the patches show, where that is known")
    captions: CaptionEncoderConfig = CaptionEncoderConfig()
    vocab_size: int = Field(
        512, ge=264, le=1_000_000, description="tokens of the captions, at most; special ones and single bytes alone are 264"
    )
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _batch_stays_whole(self) -> "VisionConfig":
        if self.objective == "contrastive" and self.train.micro_batch not in ("auto", "whole", self.train.batch_size):
            raise ValueError("the contrastive loss compares the images of a whole batch: train.micro_batch must be auto")
        return self


PRESETS: Mapping[str, VisionConfig] = {
    # Seconds on a CPU: for trying things out and for the tests.
    "debug": VisionConfig(
        model=VisionEncoderConfig(image_size=32, patch=8, stem=(16,), layers=1, width=32, heads=2, hidden=64),
        data=ImageDataConfig(num_eval_images=20),
        train=DEBUG_TRAINING,
    ),
    # Minutes on a laptop CPU.
    "tiny": VisionConfig(
        label_smoothing=0.0,
        train=TrainConfig(
            steps=1600,
            batch_size=32,
            optimizer="muon",
            lr=1e-2,
            muon_lr=1e-2,
            eval_every=800,
            save_every=800,
            schedule=ScheduleConfig(warmup_steps=50, decay_fraction=0.9),
            runtime=RuntimeConfig(workers=1),
        ),
    ),
    # Hours on a 12 GB GPU, on images of one's own (100,000 and more).
    "small": VisionConfig(
        model=VisionEncoderConfig(
            image_size=224, patch=16, stem=(), layers=12, width=384, heads=6, hidden=1024, registers=4, merge=2, dropout=0.1
        ),
        data=ImageDataConfig(augmentation="strong"),
        train=TrainConfig(
            steps=35_000, batch_size=256, lr=1e-3, eval_every=2000, save_every=2000, schedule=ScheduleConfig(warmup_steps=2000)
        ),
    ),
}


class VisionModel(nn.Module):
    """The vision encoder and, for contrastive training, a caption encoder."""

    def __init__(self, encoder: VisionEncoder, captions: CaptionEncoder | None) -> None:
        super().__init__()
        self.encoder, self.captions = encoder, captions


class Vision:
    """The vision encoder, its images, its loss."""

    name: ClassVar[str] = "vision"
    unit: ClassVar[str] = "images"
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: VisionConfig,
        image_labels: ImageLabels,
        tokenizer: Tokenizer | None,
        *,
        cache: Path,
        corpus: ImageCorpus | None = None,
    ) -> None:
        self.config, self.image_labels, self.tokenizer = config, image_labels, tokenizer
        needs: Literal["labels", "caption"] = "labels" if config.objective == "classes" else "caption"
        self.data: DataGate[ImageCorpus, ImageSet] = DataGate(
            lambda: open_images(config.data, cache) if corpus is None else corpus,
            lambda corpus, split: corpus.images(split, needs, image_labels.attributes),
            fingerprint=fingerprint_images,
            max_broken=config.data.max_broken,
        )
        self.view = View(config.model.image_size, config.model.merged_grid)
        self.labels = LabelEncoder(image_labels.attributes)
        torch.manual_seed(config.train.seed)
        self.reader: CaptionReader | None = None
        if tokenizer is None:
            encoder = VisionEncoder(
                config.model,
                tuple(map(len, image_labels.attributes.values())),
                tuple(map(len, image_labels.patch_attributes.values())),
            )
            self.model = VisionModel(encoder, None)
        else:
            encoder = VisionEncoder(config.model, ())
            captions = CaptionEncoder(config.captions, tokenizer.vocab_size, config.model.width)
            self.model, self.reader = VisionModel(encoder, captions), CaptionReader(encoder, captions, tokenizer)

    @property
    def divisible(self) -> bool:
        """Whether micro-batches will do: the contrastive loss compares all images of a batch."""
        return self.config.objective == "classes"

    @classmethod
    def create(cls, config: VisionConfig, *, context: StageContext) -> "Vision":
        """A fresh vision encoder, or one that starts from another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            ConfigError: `data.top1` names what the data has not.
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        corpus = open_images(config.data, context.cache)
        classes = Classes.of(corpus.attributes, corpus.top1, corpus.unseen)
        image_labels = ImageLabels(corpus.attributes, corpus.patch_attributes, classes, config.data.source)
        if config.objective == "classes" and not image_labels.attributes:
            raise DataError(
                f"no row of the training split of {corpus.name} has a label",
                where=corpus.name,
                fix="give rows a `label`, or learn from captions with --set objective=contrastive",
            )
        tokenizer = None
        if config.objective == "contrastive":
            tokenizer = Tokenizer.train_bpe_at_most(corpus.captions(), config.vocab_size)
        stage = cls(config, image_labels, tokenizer, cache=context.cache, corpus=corpus)
        stage.data.check()
        if stage.reader is not None and (cut := stage.reader.num_cut(list(corpus.captions()))):
            logger.info("%d captions have more than %d tokens: what comes after these is not read", cut, MAX_CAPTION_TOKENS)
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "Vision":
        """The encoder of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        source = read_config(folder, cls.name, VisionConfig).data.source
        config = read_config(folder, cls.name, VisionConfig, source=data)
        image_labels = ImageLabels.read(folder, cls.name, source)
        tokenizer = Tokenizer.load(folder / "tokenizer.json") if config.objective == "contrastive" else None
        return cls(config, image_labels, tokenizer, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights."""
        write_description(folder, self.name, self.config, **self.image_labels.fields())
        if self.tokenizer is not None:
            self.tokenizer.save(folder / "tokenizer.json")

    def take_weights(self, run: Run) -> None:
        """Take over the encoder of another run; heads only if they name the same things. Captions are learned anew."""
        own_weights = self.model.state_dict()
        same = self.image_labels.name_the_same(ImageLabels.read(run.model, self.name, self.image_labels.source))

        def adapt(weights: dict[str, Tensor]) -> dict[str, Tensor]:
            kept = {
                name: tensor
                for name, tensor in weights.items()
                if name.startswith("encoder.") and ((same and name in own_weights) or not name.startswith("encoder.head."))
            }
            anew = {name: tensor for name, tensor in own_weights.items() if name.startswith(("captions.", "encoder.head."))}
            positions = "encoder.positions"
            if positions in kept:
                kept[positions] = F.interpolate(kept[positions], own_weights[positions].shape[2:], mode="bicubic", antialias=True)
            return anew | kept

        load_weights(run.model / "model.safetensors", self.model, adapt)

    def batches(self) -> ImageBatches:
        """Images in random order, each augmented differently every time."""
        return ImageBatches(
            self.data.training_set,
            self.labels,
            self.view,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            mixes=self._mixes,
        )

    @property
    def _mixes(self) -> bool:
        """Never where patches are labelled: they would show something else."""
        data, objective = self.config.data, self.config.objective
        return data.augmentation == "strong" and objective == "classes" and not self.image_labels.patch_attributes

    def loss(self, batch: ImageBatch) -> LossSum:
        """Cross-entropies or the contrastive loss in nats, counted in images."""
        nats = self._class_nats(batch, self._see(batch)) if self.reader is None else self._contrast_nats(self.reader, batch)
        return LossSum(nats, len(batch.images), {})

    def _see(self, batch: ImageBatch) -> VisionOutput:
        seen: VisionOutput = self.model.encoder(batch.images.to(self.model.encoder.positions.device))
        return seen

    def _class_nats(self, batch: ImageBatch, seen: VisionOutput) -> Tensor:
        device, smoothing = self.model.encoder.positions.device, self.config.label_smoothing
        labels, others, shares = batch.labels.to(device), batch.others.to(device), batch.shares.to(device)
        total: Tensor = torch.zeros((), device=device)
        for number, logits in enumerate(self.model.encoder.attribute_logits(seen)):
            total = total + (shares * _nats(logits, labels[:, number], smoothing)).sum()
            total = total + ((1 - shares) * _nats(logits, others[:, number], smoothing)).sum()
        for number, logits in enumerate(self.model.encoder.patch_logits(seen) if batch.patches.shape[2] else ()):
            nats = _nats(logits.flatten(0, 1), batch.patches[:, :, number].flatten().to(device), smoothing)
            total = total + self.config.patch_weight * nats.sum() / logits.shape[1]
        return total

    def _contrast_nats(self, reader: CaptionReader, batch: ImageBatch) -> Tensor:
        scale = reader.captions.clamped_log_scale()
        return contrastive_sum(reader.place(batch.images), reader.read(batch.captions), scale)

    def work(self, batch: ImageBatch) -> Work:
        """Images and floating-point operations of a training step on this batch."""
        count = len(batch.images)
        flops = training_flops(self.model.encoder, count, batch.images.shape[-1])
        if self.reader is not None:
            flops += 6.0 * self.reader.num_tokens(batch.captions) * multiplied_weights(self.reader.captions.blocks)
        return Work(units=count, flops=flops, positions=count, slots=count)

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass as large as an evaluation batch: many images are encoded at once."""
        return (pass_of(self, batches, EVALUATION_IMAGES),)

    def validate(self) -> Report:
        """Rates on the validation split."""
        image_set = self.data.split("val")
        if self.reader is None:
            judged = self._judge(image_set, len(image_set))
            images = [image_set.example(index, self.view).image for index in range(min(SAMPLES, len(image_set)))]
            return validation_report(judged, self.image_labels.classes, self.labels.names, images)
        placed = self._place(self.reader, image_set, len(image_set))
        return Report(HEADLINE, "higher", self._contrast_metrics(placed, self._guess(self.reader, placed)), len(image_set))

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """Rates on a split or its first `limit` images, by class too, and with the images shuffled."""
        image_set = self.data.split(split)
        most = self.config.data.num_eval_images if len(image_set) >= ENDLESS else len(image_set)
        count = min(limit or most, len(image_set))
        aside = {"set_aside": float(len(image_set.set_aside))}

        def show(index: int) -> Pixels:
            return image_set.example(index, self.view).image

        if self.reader is None:
            judged = self._judge(image_set, count)
            metrics = named_rates(judged, self.image_labels.classes, self.labels.names) | aside
            estimates = attribute_estimates(judged, self.labels.names) | patch_estimates(judged.patches, judged.shows)
            report = classification_report(judged.classified, self.image_labels.classes, metrics, show, estimates)
            return self._with_verdict(report)
        placed = self._place(self.reader, image_set, count)
        guessed = self._guess(self.reader, placed)
        metrics = self._contrast_metrics(placed, guessed) | aside
        by_class = None if guessed is None else classification_report(guessed, self.image_labels.classes, metrics, show, {})
        return self._with_verdict(retrieval_report(placed, metrics, by_class))

    def _with_verdict(self, report: Report) -> Report:
        generated = tinyworld_seed(self.config.data.source) is not None
        compared = {one.control.name: one.control.value for one in report.estimates.values() if one.control}
        controls = {**report.controls, **compared}
        return replace(report, controls=controls, verdict=judge_vision(report.estimates, report.headline, generated=generated))

    def _judge(self, image_set: ImageSet, count: int) -> ImagePredictions:
        """The first images of a set as the heads name them.

        Raises:
            DataError: the class of none of them is known.
        """
        encoder = self.model.encoder
        self.model.eval()
        nats = 0.0
        values: list[list[Float32]] = []  # by batch, by attribute
        patches, shows, numbers = [], [], []
        for _, batch in evaluation_batches(image_set, self.labels, self.view, count, batch_size=EVALUATION_IMAGES):
            with torch.no_grad():
                seen = self._see(batch)
                nats += float(self._class_nats(batch, seen))
                values.append([logits.float().softmax(-1).cpu().numpy() for logits in encoder.attribute_logits(seen)])
                patches.append(_stack([logits.argmax(-1).cpu() for logits in encoder.patch_logits(seen)]))
            shows.append(batch.patches.numpy())
            numbers.append(batch.labels.numpy())
        probabilities = [np.concatenate(parts) for parts in zip(*values, strict=True)]
        rows = [image_set.row(index) for index in range(count)]
        classes = self.image_labels.classes
        combined = joint([probabilities[self.labels.names.index(name)] for name in classes.attributes])
        targets = np.array([classes.number(row.labels) for row in rows])
        if (targets == UNKNOWN).all():
            names = ", ".join(classes.attributes)
            raise DataError(
                f"none of {count} images of {self.data.corpus.name} has all labels that name its class: {names}",
                where=self.data.corpus.name,
                fix="give rows these labels, or train a model that is asked for others with --set data.top1",
            )
        return ImagePredictions(
            ClassificationResult(rows, combined, targets),
            probabilities,
            np.concatenate(numbers),
            np.concatenate(patches),
            np.concatenate(shows),
            nats / count,
        )

    def _place(self, reader: CaptionReader, image_set: ImageSet, count: int) -> SharedSpace:
        """The first images of a set and their captions, where the model puts them."""
        self.model.eval()
        images, texts = [], []
        for _, batch in evaluation_batches(image_set, self.labels, self.view, count, batch_size=EVALUATION_IMAGES):
            with torch.no_grad():
                images.append(reader.place(batch.images).float().cpu().numpy())
                texts.append(reader.read(batch.captions).float().cpu().numpy())
        return SharedSpace([image_set.row(index) for index in range(count)], np.concatenate(images), np.concatenate(texts))

    def _contrast_metrics(self, placed: SharedSpace, guessed: ClassificationResult | None) -> dict[str, float]:
        return retrieval_rates(placed) | ({} if guessed is None else class_rates(guessed, self.image_labels.classes))

    def _guess(self, reader: CaptionReader, placed: SharedSpace) -> ClassificationResult | None:
        """The classes by what a caption would say of each, if images have classes."""
        classes = self.image_labels.classes
        targets = np.array([classes.number(row.labels) for row in placed.rows])
        if not classes.attributes or (targets < 0).all():
            return None
        return ClassificationResult(placed.rows, reader.match(placed.images, self.prompts()), targets)

    @torch.no_grad()
    def name_image(self, image: Tensor) -> dict[str, Float32]:
        """Probabilities `(V,)` of the values of each attribute of an image `(3, S, S)` uint8, by the heads."""
        encoder = self.model.encoder
        logits = encoder.attribute_logits(encoder(image[None].to(encoder.positions.device)))
        return {name: scores[0].float().softmax(-1).cpu().numpy() for name, scores in zip(self.labels.names, logits, strict=True)}

    def prompts(self) -> list[tuple[str, ...]]:
        """What captions may say of each of the classes."""
        classes = self.image_labels.classes
        return [
            class_prompts(self.image_labels.source, dict(zip(classes.attributes, values, strict=True))) for values in classes.values
        ]


STAGE: type[TrainableStage] = Vision


def open_encoder(folder: Path, cache: Path) -> MediaEncoder:
    """The vision encoder of a model folder, as an omni model sees through it."""
    stage = open_model(Vision, folder, device=torch.device("cpu"), cache=cache)
    return VisionFrontend(stage.model.encoder, tuple(stage.image_labels.patch_attributes.values()))


def _nats(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of each row `(N, V)`, zero where the target is not known."""
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return F.cross_entropy(wide, targets, ignore_index=UNKNOWN, reduction="none", label_smoothing=smoothing)


def _stack(parts: Sequence[Tensor]) -> Int64:
    """`(B, P)` numbers of each patch attribute as `(B, P, A)`; `(1, 0, 0)` of none."""
    return torch.stack(list(parts), -1).numpy() if parts else np.zeros((1, 0, 0), np.int64)
