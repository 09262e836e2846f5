"""Stage E: a Thinker learns to answer about text, pictures and sounds.

    loss = −Σ ln p(token_t | what was said, shown and heard before) ÷ number of tokens of the assistant's answers

Encoders of stages B and C see and hear; what they make of a picture or a sound takes the place of tokens, through projectors that
learn alone first (`projector_alignment`; without words of the encoders', by the loss above: Liu et al. 2023, LLaVA) and with the
Thinker afterwards. A share of each batch is the Thinker's own text, lest it forget how to write. The Talker is not trained here,
only kept beside: the result needs no other run.
Headline metric: `accuracy`, the mean over tasks.

    omnictl sft --preset tiny [--data my/dialogues.jsonl]
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from omnictl import __version__
from omnictl.config import Config, to_dict
from omnictl.config.split import Split
from omnictl.data.dialogues.batches import DialogueBatch, DialogueBatches, Mixture, side_by_side
from omnictl.data.dialogues.chat_template import ChatTemplate, MediaKind
from omnictl.data.dialogues.corpus import DialogueCorpus, DialogueDataConfig
from omnictl.data.dialogues.examples import DialogueSet, open_dialogue_set, spell_last
from omnictl.data.dialogues.media_features import MediaFeatures, Source
from omnictl.data.dialogues.source import open_dialogues
from omnictl.data.manifest.quarantine import format_rows, refuse_too_many
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.text.source import open_corpus
from omnictl.data.text.token_store import TokenStore, open_store
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import CheckpointError, DataError
from omnictl.evaluation.sft import (
    AT_ONCE,
    DialogueResult,
    Respondent,
    answer_sheet,
    concatenate,
    exchange_media,
    find_commonest,
    prediction,
    rates,
    text_only,
    with_controls,
)
from omnictl.evaluation.spoken_replies import SpokenReplies, say_replies
from omnictl.evaluation.talker import Judge, Ladder
from omnictl.features.frontends import MediaEncoder, Raw
from omnictl.features.frozen_features import EncoderInputs, perceive
from omnictl.generate.decode import Prompt, Reading
from omnictl.metrics.intervals import Estimate
from omnictl.metrics.verdict import judge_answers
from omnictl.models.omni import Features, Omni, OmniConfig
from omnictl.models.thinker import Thinker, training_flops
from omnictl.nn.losses.cross_entropy import IGNORE, cross_entropy_sum, score_rows
from omnictl.runs.model_folder import copy_parts, held_parts, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.modalities import MODALITIES
from omnictl.stages.pretrain import Pretrain, PretrainConfig
from omnictl.stages.projector_alignment import alignment_loss, can_align, projector_flops
from omnictl.stages.talker import TalkerStage
from omnictl.stages.trained_model import open_model
from omnictl.tinyworld.dialogues import TASKS
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig
from omnictl.trainer.stage import Batches, LossSum, Report, Work

T = TypeVar("T")

VALIDATED_AT_ONCE = 64
"""Dialogues scored at a time."""


class SftConfig(Config):
    """Config of stage E."""

    model: OmniConfig = OmniConfig()
    data: DialogueDataConfig = DialogueDataConfig()
    projector_steps: int = Field(100, ge=0, description="first steps, in which only the projectors learn")
    max_reply: int = Field(64, ge=1, description="most tokens of an answer that is judged")
    train: TrainConfig = TrainConfig()


PRESETS: Mapping[str, SftConfig] = {
    # Seconds on a CPU: for trying things out and for the tests.
    "debug": SftConfig(
        model=OmniConfig(projector_hidden=32),
        data=DialogueDataConfig(
            counts={"spoken": 8, "spoken_image": 8, "transcribe": 8}, num_pictures=16, num_eval_dialogues=4, replay=0.1
        ),
        projector_steps=0,
        max_reply=8,
        train=DEBUG_TRAINING,
    ),
    # Minutes on a laptop CPU.
    "tiny": SftConfig(
        data=DialogueDataConfig(
            counts={"spoken": 2_500, "spoken_image": 3_500, "transcribe": 4_000},
            num_pictures=10_000,
            weights={
                "text": 4,
                "image_colour": 1,
                "image_shape": 1,
                "image_place": 1,
                "image_count": 0.5,
                "image_relation": 1,
                "image_yesno": 1,
                "caption": 3,
                "spoken": 2,
                "spoken_image": 4,
                "transcribe": 2.5,
                "two_images": 1.5,
                "multi_turn": 10,
            },
        ),
        projector_steps=100,
        train=TrainConfig(
            steps=4800,
            batch_size=48,
            optimizer="muon",
            lr=2.5e-3,
            muon_lr=1e-2,
            eval_every=1000,
            save_every=1000,
            schedule=ScheduleConfig(decay_fraction=0.8),
        ),
    ),
    # Hours on a 12 GB GPU.
    "small": SftConfig(
        model=OmniConfig(projector_hidden=1280),
        data=DialogueDataConfig(
            counts={"spoken": 12_000, "spoken_image": 16_000, "transcribe": 12_000}, num_pictures=15_000, num_eval_dialogues=400
        ),
        projector_steps=1000,
        train=TrainConfig(
            steps=40_000, batch_size=128, lr=1e-3, eval_every=2000, save_every=2000, schedule=ScheduleConfig(warmup_steps=500)
        ),
    ),
}


class Sft:
    """The omni model, its dialogues, its loss."""

    name: ClassVar[str] = "sft"
    unit: ClassVar[str] = "tokens"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = (Pretrain.name, *(modality.stage for modality in MODALITIES.values()), "talker")
    config_type: ClassVar[type[SftConfig]] = SftConfig
    presets: ClassVar[Mapping[str, SftConfig]] = PRESETS

    def __init__(self, config: SftConfig, parts: Mapping[str, Path], *, cache: Path) -> None:
        self.config, self.parts, self._cache = config, parts, cache
        self.pretrained = read_config(parts["pretrain"], Pretrain.name, PretrainConfig)
        self.tokenizer = Tokenizer.load(parts["pretrain"] / "tokenizer.json")
        self.template = ChatTemplate(self.tokenizer)
        self.encoders: dict[MediaKind, MediaEncoder] = {
            kind: modality.open(parts[modality.stage], cache) for kind, modality in MODALITIES.items() if modality.stage in parts
        }
        torch.manual_seed(config.train.seed)
        thinker = Thinker(self.pretrained.model, self.tokenizer.vocab_size)
        load_weights(parts["pretrain"] / "model.safetensors", thinker)
        features = {kind: Features(encoder.width, prod(encoder.grid or (0,))) for kind, encoder in self.encoders.items()}
        self.model = Omni(config.model, thinker, features, self._modules if self.learns_to_perceive else {})
        if not self.learns_to_perceive:
            for encoder in self._modules.values():
                encoder.eval().requires_grad_(requires_grad=False)
        self._shown: dict[Split, MediaFeatures] = {}
        self.judge: Judge | None = None
        """Who listens to spoken replies in an evaluation."""

    @classmethod
    def create(
        cls, config: SftConfig, *, cache: Path, init: Run | None = None, upstream: Mapping[str, Path] | None = None
    ) -> "Sft":
        """A Thinker joined with the encoders that its data needs, or one that goes on from another run's weights.

        Args:
            config: the resolved config.
            cache: folder of the cache.
            init: a run of this stage whose weights to take over.
            upstream: model folders of the parts by the names of their stages; the Talker may be missing.

        Raises:
            DataError: the data cannot be read, too much of it is broken, or it has media that no part perceives.
            CheckpointError: a folder holds no whole model, or `init` one of another shape.
        """
        assert upstream is not None, "an omni model is made of others"
        corpus = open_dialogues(config.data, cache)
        wanted = needed_parts(corpus)
        missing = [stage for stage in wanted if stage not in upstream]
        if missing:
            raise CheckpointError(
                f"{corpus.name} needs a trained model of stage `{missing[0]}`",
                where=missing[0],
                fix=f"make one: omnictl {missing[0]}",
            )
        parts = {stage: upstream[stage] for stage in (*wanted, "talker") if stage in upstream}
        stage = cls(config, parts, cache=cache)
        stage.corpus = corpus
        stage._check_quarantine()
        stage._weights()  # before anything is written
        if init is not None:
            stage.take_weights(init)
        return stage

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "Sft":
        """The omni model of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, SftConfig)
        if data is not None:
            config = config.model_copy(update={"data": config.data.model_copy(update={"source": data})})
        return cls(config, held_parts(folder, cls.needs), cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds beside the weights, the parts among it: it needs no other run."""
        write_description(folder, self.name, omnictl=__version__, chat="chatml", config=to_dict(self.config))
        self.tokenizer.save_for_chat(folder)
        copy_parts(folder, self.parts)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of the same shape.

        Raises:
            CheckpointError: it has no whole model, or one of another shape.
        """
        load_weights(run.model / "model.safetensors", self.model)

    @property
    def learns_to_perceive(self) -> bool:
        """Whether the encoders are trained along."""
        return self.config.model.encoders == "trained"

    @property
    def _modules(self) -> dict[MediaKind, nn.Module]:
        """The encoders as what they are besides."""
        modules: dict[MediaKind, nn.Module] = {}
        for kind, encoder in self.encoders.items():
            assert isinstance(encoder, nn.Module)
            modules[kind] = encoder
        return modules

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.thinker.embedding.weight.device

    @cached_property
    def corpus(self) -> DialogueCorpus:
        """The dialogues, looked for only when they are needed: a model is used without them, too."""
        return open_dialogues(self.config.data, self._cache)

    @cached_property
    def training_set(self) -> DialogueSet:
        """What is trained on."""
        return self._set("train")

    @cached_property
    def validation_set(self) -> DialogueSet:
        """What is validated on."""
        return self._set("val")

    def _set(self, split: Split) -> DialogueSet:
        """The usable dialogues of a split.

        Raises:
            DataError: there is none.
        """
        found = open_dialogue_set(self.corpus, split, self.template, self.media_features(split), self.model.thinker.config.context)
        if not found:
            reasons = f":\n{format_rows(found.set_aside)}" if found.set_aside else ""
            raise DataError(
                f"nothing in the {split} split of {self.corpus.name} can be used{reasons}",
                where=self.corpus.name,
                fix="give more dialogues" if split == "train" else f"give more dialogues, or --set data.{split}_fraction=0.1",
            )
        return found

    @property
    def quarantine(self) -> Sequence[BrokenRow]:
        """Rows that are neither trained nor validated on, each with the reason."""
        return (*self.corpus.broken, *self.training_set.set_aside, *self.validation_set.set_aside)

    def _check_quarantine(self) -> None:
        refuse_too_many(
            [*self.corpus.broken, *self.training_set.set_aside],
            usable=len(self.training_set),
            allowed=self.config.data.max_broken,
            source=self.corpus.name,
        )

    def media_features(self, split: Split) -> MediaFeatures:
        """How the pictures and sounds of a split reach the model: as features of frozen encoders, or as they are."""
        if split not in self._shown:
            self._shown[split] = MediaFeatures(
                {kind: self._source(kind, split) for kind in self.encoders if kind in self.corpus.kinds}
            )
        return self._shown[split]

    def _source(self, kind: MediaKind, split: Split) -> Source:
        encoder = self.encoders[kind]
        inputs = encoder.inputs(self.corpus, split, self._cache)
        if self.learns_to_perceive:
            return EncoderInputs(inputs, encoder)
        self._modules[kind].to(self.device)
        return perceive(encoder, inputs, self._cache, f"{kind}s of the {split} split")

    @cached_property
    def _texts(self) -> TokenStore | None:
        """The Thinker's own text, if some of it is to be replayed.

        Raises:
            DataError: it is not there any more.
        """
        if self.config.data.replay == 0:
            return None
        try:
            return open_store(open_corpus(self.pretrained.data), "train", self.tokenizer, self._cache)
        except DataError as error:
            raise DataError(
                f"the text that the Thinker was trained on is to be replayed: {error.message}",
                where="data.replay",
                fix="bring it back, or do without: --set data.replay=0",
            ) from error

    def batches(self) -> DialogueBatches:
        """Dialogues of all tasks as their weights say, and replayed text."""
        train, data = self.config.train, self.config.data
        return DialogueBatches(
            self.training_set,
            self._texts,
            self.template,
            self.media_features("train"),
            Mixture(self._weights(), data.replay),
            batch_size=train.batch_size,
            seed=train.seed,
            context=self.model.thinker.config.context,
            warmup=self.config.projector_steps * train.batch_size,
            placed=self.placed,
        )

    def _weights(self) -> Mapping[str, float]:
        """How often each task is drawn. What is said of the built-in world's tasks does not concern data that has none of them.

        Raises:
            DataError: a task that is named is none, or one that there is is not named.
        """
        given, counts = self.config.data.weights, {task: len(found) for task, found in self.training_set.numbers.items()}
        known = counts if self.corpus.generated else (*counts, *TASKS)
        unknown = [task for task in given if task not in known]
        if unknown:
            raise DataError(
                f"data.weights names {unknown[0]!r}, the tasks are {', '.join(counts)}",
                where="data.weights",
                fix="name tasks that the training split has",
            )
        if not given.keys() & counts.keys():
            return dict.fromkeys(counts, 1.0) if self.corpus.generated else counts
        unnamed = [task for task in counts if task not in given]
        if unnamed and not self.corpus.generated:
            raise DataError(
                f"data.weights does not say how often {unnamed[0]!r} is drawn, beside {', '.join(given.keys() & counts.keys())}",
                where="data.weights",
                fix=f"--set data.weights.{unnamed[0]}=1, or as often as it should be",
            )
        return {task: given[task] for task in counts if task in given}

    @property
    def placed(self) -> bool:
        """Whether positions are time-aware."""
        return self.config.model.positions == "time"

    def loss(self, batch: DialogueBatch) -> LossSum:
        """Cross-entropy in nats, counted in tokens of answers and of replayed text; of projectors alone, their alignment."""
        self.model.learn_projectors_only(only=batch.projectors_only)
        if self._aligns(batch):
            features = {kind: self._features_of_each(kind, values) for kind, values in batch.media.items()}
            total, count = alignment_loss(self.model, self.encoders, features, self.tokenizer)
            return LossSum(total, count, {})
        hidden, targets = self._scored(batch)
        return LossSum(cross_entropy_sum(hidden, self.model.thinker.embedding.weight, targets), batch.num_targets, {})

    def _aligns(self, batch: DialogueBatch) -> bool:
        """Whether nothing but projectors learns from a batch, and words are known for it."""
        return batch.projectors_only and can_align(self.encoders)

    def _features_of_each(self, kind: MediaKind, values: Sequence[Raw]) -> list[Tensor]:
        """Features `(n, width)` of each picture or sound of a batch."""
        encoder = self.encoders[kind]
        if self.learns_to_perceive:
            return encoder(values)
        self._modules[kind].to(self.device)
        return [torch.from_numpy(value).to(self.device) for value in values]

    def _count(self, kind: MediaKind, values: Sequence[Raw]) -> int:
        """Features of all pictures or sounds of a batch."""
        return sum(map(self.encoders[kind].count, values) if self.learns_to_perceive else map(len, values))

    def _scored(self, batch: DialogueBatch) -> tuple[Tensor, Tensor]:
        """Hidden states `(N, D)` where something is to be predicted, and what, `(N,)`."""
        segments, positions = batch.segments.to(self.device), self._moved(batch.positions)
        features = {kind: self.features(kind, values) for kind, values in batch.media.items()}
        targets = batch.targets.to(self.device)
        scored = targets != IGNORE
        hidden = self.model(batch.tokens.to(self.device), features, segments=segments, positions=positions, scored=scored)
        return hidden, targets[scored]

    def features(self, kind: MediaKind, values: Sequence[Raw]) -> Tensor:
        """Features `(N, width)` of all pictures or sounds of a batch, one after the other."""
        if self.learns_to_perceive:
            return torch.cat(self.encoders[kind](values))
        return concatenate(values, self.model.thinker.embedding.weight)

    def _moved(self, positions: Tensor | None) -> Tensor | None:
        return None if positions is None else positions.to(self.device)

    def work(self, batch: DialogueBatch) -> Work:
        """Positions and floating-point operations of a training step on this batch, padding not counted."""
        positions = int(batch.lengths.sum())
        flops = training_flops(self.model.thinker, batch.lengths, batch.num_targets)
        if self._aligns(batch):
            flops = projector_flops(self.model, {kind: self._count(kind, values) for kind, values in batch.media.items()})
        return Work(positions, flops, positions=positions, slots=batch.tokens.numel())

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """See `Stage`: many dialogues are scored at once, and many answers are written."""
        largest = [*batches.largest(1)] * VALIDATED_AT_ONCE
        return partial(self.loss, batches.collate(largest)), self._read_long_prompts

    def _read_long_prompts(self) -> Reading:
        thinker = self.model.thinker
        length = max(1, thinker.config.context - self.config.max_reply)
        embeddings = thinker.embedding.weight.new_zeros(AT_ONCE, length, thinker.config.width)
        positions = torch.zeros(AT_ONCE, length, 3, dtype=torch.int64, device=self.device) if self.placed else None
        return Reading(thinker, Prompt(embeddings, positions), self.config.max_reply)

    @torch.no_grad()
    def validate(self) -> Report:
        """How often the likeliest tokens are those of the whole last answer, and their nats, on the validation split."""
        found = self.validation_set
        right: dict[str, list[bool]] = {}
        nats, tokens = 0.0, 0
        dialogues = list(found.all())
        for start in range(0, len(dialogues), VALIDATED_AT_ONCE):
            some = dialogues[start : start + VALIDATED_AT_ONCE]
            batch = side_by_side(
                [spell_last(dialogue, self.template, self.media_features("val")) for dialogue in some],
                self.model.thinker.config.context,
                placed=self.placed,
            )
            hidden, targets = self._scored(batch)
            rows = score_rows(hidden, self.model.thinker.embedding.weight, targets)
            owner = batch.segments[batch.targets != IGNORE].to(self.device)
            wrong = torch.zeros(len(some), device=self.device).index_add(0, owner, (~rows.is_likeliest).float())
            for dialogue, mistakes in zip(some, wrong.tolist(), strict=True):
                right.setdefault(dialogue.task, []).append(mistakes == 0)
            nats, tokens = nats + float(rows.nats.sum()), tokens + len(owner)
        by_task = {f"accuracy_{task}": sum(hits) / len(hits) for task, hits in right.items()}
        mean = sum(by_task.values()) / len(by_task)
        return Report("accuracy", "higher", {"accuracy": mean, "loss": nats / tokens, **by_task}, len(dialogues))

    def evaluate(self, split: Split, *, limit: int | None) -> Report:
        """How well it answers a split, or `limit` dialogues, of all tasks in turn; spoken replies and text of its own, too."""
        dialogues = list(islice(self._set(split).all(), limit))
        respondent, shown = self.respondent(), self.media_features(split)
        answered = respondent.answer_all(dialogues, shown, max_reply=self.config.max_reply)
        without = {
            control: rates(respondent.answer_all(changed, shown, max_reply=self.config.max_reply))
            for control, changed in (("shuffled", exchange_media(dialogues)), ("text_only", text_only(dialogues)))
        }
        estimates = with_controls(rates(answered), without["shuffled"], find_commonest(answered))
        compared = {one.control.name: one.control.value for one in estimates.values() if one.control}
        controls = compared | {f"{name}_{control}": one.value for control, some in without.items() for name, one in some.items()}
        spoken, writing = self._spoken_replies(answered), self._writing(split, limit)
        judged = {name: one.value for name, one in estimates.items()}
        return Report(
            "accuracy",
            "higher",
            {**judged, **spoken.metrics, **writing.metrics},
            len(dialogues),
            controls={**controls, **spoken.controls, **writing.controls},
            estimates={**estimates, **spoken.estimates, **writing.estimates},
            verdict=judge_answers(estimates, generated=self.corpus.generated),
            predictions=[prediction(one, self.corpus, split) for one in answered],
            pictures={"answers.png": answer_sheet(answered, self.corpus.images(split))},
            sounds=spoken.sounds,
        )

    def _spoken_replies(self, answered: Sequence[DialogueResult]) -> SpokenReplies:
        """Some of the answers, said by the Talker; none without it or without a judge."""
        if "talker" not in self.parts or self.judge is None:
            return SpokenReplies({}, {}, {}, {})
        talker = open_model(TalkerStage, self.parts["talker"], device=self.device, cache=self._cache)
        ladder = Ladder(talker.voice(), self.judge, self.config.train.seed)
        return say_replies([one.answer for one in answered], ladder)

    def _writing(self, split: Split, limit: int | None) -> "Writing":
        """How well the Thinker still writes the text that is replayed: the metrics of stage A, named as there but for the loss."""
        if self.config.data.replay == 0:
            return Writing({}, {}, {})
        generated = all(tinyworld_seed(source) is not None for source in (self.config.data.source, self.pretrained.data.source))
        pretrain = Pretrain.open(self.parts["pretrain"], data=self.config.data.source if generated else None, cache=self._cache)
        pretrain.model = self.model.thinker
        report = pretrain.evaluate(split, limit=limit)
        return Writing(_as_text(report.metrics), _as_text(report.estimates), report.controls)

    def respondent(self) -> Respondent:
        """The model, ready to answer."""
        self.model.eval()
        for encoder in self._modules.values():
            encoder.to(self.device).eval()
        features = self.features if self.learns_to_perceive else None
        return Respondent(self.model, self.template, self.placed, features)


class Writing(NamedTuple):
    """How well text is still written."""

    metrics: Mapping[str, float]
    estimates: Mapping[str, Estimate]
    controls: Mapping[str, float]


def _as_text(found: Mapping[str, T]) -> dict[str, T]:
    """What stage A says, its loss named so that it is none of this stage."""
    return {"text_loss": found["loss"], **{name: one for name, one in found.items() if name != "loss"}}


def needed_parts(corpus: DialogueCorpus) -> tuple[str, ...]:
    """The stages whose models dialogues cannot do without."""
    return (Pretrain.name, *(modality.stage for kind, modality in MODALITIES.items() if kind in corpus.kinds))
