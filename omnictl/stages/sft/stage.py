"""Stage E: a Thinker learns to answer about text, images and audio.

    loss = −Σ ln p(token_t | what was said, shown and heard before) ÷ number of tokens of the assistant's answers

Encoders of stages B and C see and hear; what they make of an image or a recording takes the place of tokens, through projectors. On
TinyWorld the Thinker first does exercises in which words stand for what is shown and said (`imitated_media`); then the
projectors learn alone (`projector_alignment`; without words of the encoders', by the loss above: Liu et al. 2023, LLaVA), and then
both together. A share of each batch is the Thinker's own text, lest it forget how to write. The Talker is not trained here,
only kept beside: the result needs no other run.
Headline metric: `accuracy`, the mean over tasks but transcripts; of these alone, their word error rate.

    omnictl sft --preset tiny [--data my/dialogues.jsonl]
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from math import prod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from omnictl.config.split import Split
from omnictl.data.dialogues.batches import (
    DialogueBatch,
    DialogueBatches,
    Mixture,
    PairBatches,
    open_replayed_text,
    pack_examples,
    pack_pairs,
)
from omnictl.data.dialogues.chat_template import ChatTemplate
from omnictl.data.dialogues.corpus import DialogueCorpus
from omnictl.data.dialogues.examples import DialogueSet, encode_last_answer, open_dialogue_set, task_weights
from omnictl.data.dialogues.imitated_media import ExerciseSizes, imitate, make_exercises
from omnictl.data.dialogues.media_features import FeatureSource, MediaFeatures
from omnictl.data.dialogues.modalities import MODALITIES, MediaKind
from omnictl.data.dialogues.source import fingerprint_dialogues, open_dialogues
from omnictl.data.manifest.data_gate import DataGate
from omnictl.data.manifest.quarantine import format_rows
from omnictl.data.manifest.source import tinyworld_seed
from omnictl.data.text.source import open_corpus
from omnictl.data.text.token_store import TokenStore
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import DataError
from omnictl.evaluation.sft import (
    AT_ONCE,
    DialogueResult,
    Respondent,
    WritingResult,
    answer_sheet,
    concatenate,
    judge_with_controls,
    name_as_text,
    prediction,
    sample_answers,
    validation_metrics,
)
from omnictl.evaluation.spoken_replies import KEPT, SAID, SpokenReplies, say_replies
from omnictl.evaluation.talker import Judge, TalkerEvaluator
from omnictl.features.frozen_features import EncoderInputs, perceive
from omnictl.features.media_encoders import MediaEncoder, Raw, open_encoder
from omnictl.features.projector_alignment import alignment_loss, can_align, projector_flops
from omnictl.generate.token_decoder import Prompt, Reading
from omnictl.metrics.intervals import rate
from omnictl.metrics.verdict import judge_answers
from omnictl.models.omni import Features, Omni
from omnictl.models.thinker import ThinkerOutput, training_flops
from omnictl.nn.lora import match_updates
from omnictl.nn.losses.cross_entropy import IGNORE, cross_entropy_sum, score_rows
from omnictl.runs.model_folder import copy_parts, parts_in, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.pretrain import Pretrain, PretrainConfig, add_balance, open_thinker
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.stages.sft.config import SftConfig
from omnictl.stages.sft.parts import PARTS, choose_parts
from omnictl.stages.sft.preferences import Preferences, Preferred
from omnictl.stages.talker import open_voice
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.stage import Batches, LossSum, Report, Work

VALIDATED_AT_ONCE = 64
"""Dialogues scored at a time."""


class Sft:
    """The omni model, its dialogues, its loss."""

    name: ClassVar[str] = "sft"
    unit: ClassVar[str] = "tokens"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = PARTS

    def __init__(self, config: SftConfig, parts: Mapping[str, Path], *, cache: Path, corpus: DialogueCorpus | None = None) -> None:
        self.config, self.parts, self._cache = config, parts, cache
        self.data: DataGate[DialogueCorpus, DialogueSet] = DataGate(
            lambda: open_dialogues(config.data, cache) if corpus is None else corpus,
            self._open_set,
            fingerprint=fingerprint_dialogues,
            max_broken=config.data.max_broken,
        )
        self.pretrained = read_config(parts["pretrain"], Pretrain.name, PretrainConfig)
        self.tokenizer = Tokenizer.load(parts["pretrain"] / "tokenizer.json")
        self.template = ChatTemplate(self.tokenizer)
        self.encoders: dict[MediaKind, MediaEncoder] = {
            kind: open_encoder(kind, parts[modality.stage], cache)
            for kind, modality in MODALITIES.items()
            if modality.stage in parts
        }
        torch.manual_seed(config.train.seed)
        thinker = open_thinker(parts["pretrain"]).model
        features = {kind: Features(encoder.width, prod(encoder.grid or (0,))) for kind, encoder in self.encoders.items()}
        self.model = Omni(config.model, thinker, features, self._modules if self.learns_to_perceive else {})
        if not self.learns_to_perceive:
            for encoder in self._modules.values():
                encoder.eval().requires_grad_(requires_grad=False)
        self._media_features: dict[Split, MediaFeatures] = {}
        self.preferences: Preferences | None = None

    @classmethod
    def create(cls, config: SftConfig, *, context: StageContext) -> "Sft":
        """A Thinker joined with the encoders that its data needs, and the Talker if there is one; or another run's model.

        Raises:
            DataError: the data cannot be read, too much of it is broken, or it has media that no part perceives.
            CheckpointError: a part is missing or holds no complete model, or the other run has one of another shape.
            ConfigError: the other run cannot learn from pairs of replies.
        """
        corpus = open_dialogues(config.data, context.cache)
        parts = choose_parts(config, context, corpus)
        stage = cls(config, parts, cache=context.cache, corpus=corpus)
        stage.data.check()
        task_weights(stage.data.training_set, config.data)  # before anything is written
        context.start(stage)
        stage._begin_preferences(None)
        return stage

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "Sft":
        """The omni model of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, SftConfig, source=data)
        stage = cls(config, parts_in(folder, cls.needs), cache=cache)
        stage._begin_preferences(folder)
        return stage

    def _begin_preferences(self, folder: Path | None) -> None:
        """Keep the model as it is, or as a model folder has it, to compare pairs with; if pairs are what it learns from."""
        if self.config.objective == "dpo":
            self.preferences = Preferences(self.model, self._score_examples, self.config.dpo_beta, folder)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights, the parts among it: it needs no other run."""
        write_description(folder, self.name, self.config, chat="chatml")
        self.tokenizer.save_for_chat(folder)
        copy_parts(folder, self.parts)
        if self.preferences is not None:
            self.preferences.save(folder)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of its shape; low-rank updates that only one of them has begin or are merged."""
        alpha, own_alpha = read_config(run.model, self.name, SftConfig).model.lora_alpha, self.config.model.lora_alpha
        like = self.model.state_dict()
        load_weights(run.model / "model.safetensors", self.model, lambda tensors: match_updates(tensors, like, alpha, own_alpha))

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

    def _open_set(self, corpus: DialogueCorpus, split: Split) -> DialogueSet:
        """The usable dialogues of a split.

        Raises:
            DataError: there is none.
        """
        context, pairs = self.model.thinker.config.context, self.config.objective == "dpo" and split == "train"
        dialogues = open_dialogue_set(corpus, split, self.template, self.media_features(split), context, pairs=pairs)
        if not dialogues:
            reasons = f":\n{format_rows(dialogues.set_aside)}" if dialogues.set_aside else ""
            raise DataError(
                f"nothing in the {split} split of {corpus.name} can be used{reasons}",
                where=corpus.name,
                fix="give more dialogues" if split == "train" else f"give more dialogues, or --set data.{split}_fraction=0.1",
            )
        return dialogues

    def media_features(self, split: Split) -> MediaFeatures:
        """How the images and recordings of a split reach the model: as features of frozen encoders, or as they are."""
        if split not in self._media_features:
            self._media_features[split] = MediaFeatures(
                {kind: self._source(kind, split) for kind in self.encoders if kind in self.data.corpus.kinds}
            )
        return self._media_features[split]

    def _source(self, kind: MediaKind, split: Split) -> FeatureSource:
        encoder = self.encoders[kind]
        inputs = encoder.inputs(self.data.corpus, split, self._cache)
        if self.learns_to_perceive:
            return EncoderInputs(inputs, encoder)
        self._modules[kind].to(self.device)
        return perceive(encoder, inputs, self._cache, f"{kind}s of the {split} split")

    @cached_property
    def _texts(self) -> TokenStore | None:
        """The Thinker's own text, if some of it is to be replayed."""
        return open_replayed_text(self.pretrained.data, self.tokenizer, self._cache) if self.config.data.replay else None

    def batches(self) -> DialogueBatches | PairBatches:
        """Dialogues of all tasks as their weights say, and replayed text; or pairs of replies."""
        train, data, thinker = self.config.train, self.config.data, self.model.thinker.config
        mixture = Mixture(task_weights(self.data.training_set, data), data.replay)
        if self.preferences is not None:
            self.preferences.open_reference()  # before there are threads, traces of memory and weights in slices
            return PairBatches(
                self.data.training_set,
                self.template,
                self.media_features("train"),
                mixture,
                batch_size=train.batch_size,
                seed=train.seed,
                context=thinker.context,
                placed=self.placed,
            )
        steps = (self.config.conclusion_steps, self.config.lookup_steps, self.config.imitation_steps)
        sizes = ExerciseSizes(*(number * train.batch_size for number in steps))
        return DialogueBatches(
            self.data.training_set,
            self._texts,
            self.template,
            self.media_features("train"),
            mixture,
            batch_size=train.batch_size,
            seed=train.seed,
            context=thinker.context,
            warmup=self.config.projector_steps * train.batch_size if self.encoders else 0,
            placed=self.placed,
            exercises=make_exercises(self.data.corpus, self.tokenizer, thinker.width, mixture, sizes),
            repeated=self.config.conclusion_share,
        )

    @property
    def placed(self) -> bool:
        """Whether positions are time-aware."""
        return self.config.model.positions == "time"

    def loss(self, batch: DialogueBatch) -> LossSum:
        """Cross-entropy in nats, and the experts' balance term, counted in tokens of answers and of replayed text; of projectors
        alone, their alignment; of pairs, how well they are told apart, counted in pairs."""
        if self.preferences is not None:
            return self.preferences.loss(batch)
        self.model.learn_projectors_only(only=batch.projectors_only)
        if self._aligns(batch):
            features = {kind: self._features_of_each(kind, values) for kind, values in batch.media.items()}
            total, count = alignment_loss(self.model, self.encoders, features, self.tokenizer)
            return LossSum(total, count, {})
        output, targets = self._score(self.model, batch)
        nats = cross_entropy_sum(output.hidden, self.model.thinker.embedding.weight, targets)
        balance = None if output.balance is None else output.balance * batch.target_shares.to(self.device)
        return add_balance(nats, balance, self.model.thinker.config.balance_weight, batch.num_targets)

    def _aligns(self, batch: DialogueBatch) -> bool:
        """Whether nothing but projectors learns from a batch, and words are known for it."""
        return batch.projectors_only and can_align(self.encoders)

    def _features_of_each(self, kind: MediaKind, values: Sequence[Raw]) -> list[Tensor]:
        """Features `(n, width)` of each image or recording of a batch."""
        encoder = self.encoders[kind]
        if self.learns_to_perceive:
            return encoder(values)
        self._modules[kind].to(self.device)
        return [torch.from_numpy(value).to(self.device) for value in values]

    def _count(self, kind: MediaKind, values: Sequence[Raw]) -> int:
        """Features of all images or recordings of a batch."""
        return sum(map(self.encoders[kind].count, values) if self.learns_to_perceive else map(len, values))

    def _score(self, model: Omni, batch: DialogueBatch) -> tuple[ThinkerOutput, Tensor]:
        """What a model makes of a batch, hidden states `(N, D)` where something is to be predicted, and what, `(N,)`."""
        tokens, segments = batch.tokens.to(self.device), batch.segments.to(self.device)
        positions = None if batch.positions is None else batch.positions.to(self.device)
        features = {
            kind: imitate(values, model.thinker.embedding.weight) if batch.imitates else self.features(kind, values)
            for kind, values in batch.media.items()
        }
        targets = batch.targets.to(self.device)
        scored = targets != IGNORE
        output = model(tokens, features, segments=segments, positions=positions, scored=scored, projected=batch.imitates)
        return output, targets[scored]

    def _score_examples(self, model: Omni, batch: DialogueBatch) -> Tensor:
        """−ln p of all that each example of a batch is to predict, `(examples,)`."""
        output, targets = self._score(model, batch)
        owner = batch.segments[batch.targets != IGNORE].to(self.device)
        nats = score_rows(output.hidden, model.thinker.embedding.weight, targets).nats
        return nats.new_zeros(len(batch.lengths)).index_add(0, owner, nats)

    def features(self, kind: MediaKind, values: Sequence[Raw]) -> Tensor:
        """Features `(N, width)` of all images or recordings of a batch, one after the other."""
        if self.learns_to_perceive:
            return torch.cat(self.encoders[kind](values))
        return concatenate(values, self.model.thinker.embedding.weight)

    def work(self, batch: DialogueBatch) -> Work:
        """Positions and floating-point operations of a training step on this batch, padding not counted."""
        positions = int(batch.lengths.sum())
        flops = training_flops(self.model.thinker, batch.lengths, batch.num_targets)
        if self._aligns(batch):
            flops = projector_flops(self.model, {kind: self._count(kind, values) for kind, values in batch.media.items()})
        if self.preferences is not None:
            flops *= 4 / 3  # the frozen model's forward pass, beside a forward and a backward pass
        return Work(positions, flops, positions=positions, slots=batch.tokens.numel())

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """The loss of a validation batch, and the reading of as many long prompts as an evaluation answers at once."""
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
        right: dict[str, list[bool]] = {}
        nats, tokens = 0.0, 0
        dialogues = list(self.data.split("val").all())
        for start in range(0, len(dialogues), VALIDATED_AT_ONCE):
            some = dialogues[start : start + VALIDATED_AT_ONCE]
            encoded = [encode_last_answer(dialogue, self.template, self.media_features("val")) for dialogue in some]
            batch = pack_examples(encoded, self.model.thinker.config.context, placed=self.placed)
            output, targets = self._score(self.model, batch)
            rows = score_rows(output.hidden, self.model.thinker.embedding.weight, targets)
            owner = batch.segments[batch.targets != IGNORE].to(self.device)
            wrong = torch.zeros(len(some), device=self.device).index_add(0, owner, (~rows.is_likeliest).float())
            for dialogue, mistakes in zip(some, wrong.tolist(), strict=True):
                right.setdefault(dialogue.task, []).append(mistakes == 0)
            nats, tokens = nats + float(rows.nats.sum()), tokens + len(owner)
        metrics = validation_metrics(right, nats / tokens)
        samples = sample_answers(self.respondent(), dialogues, self.media_features("val"))
        preferred = self._judge_pairs("val", None)
        if preferred is not None:
            metrics = {"preferred": rate(preferred.right).value, "preference_loss": preferred.nats, **metrics}
        return Report(next(iter(metrics)), "higher", metrics, len(dialogues), predictions=samples)

    @torch.no_grad()
    def _judge_pairs(self, split: Split, limit: int | None) -> Preferred | None:
        """How well the replies of a split's pairs are told apart, if that is what is learned and there are any."""
        if self.preferences is None:
            return None
        pairs, context = islice(self.data.split(split).all_pairs(), limit), self.model.thinker.config.context
        batches = pack_pairs(pairs, self.template, self.media_features(split), context, placed=self.placed)
        return self.preferences.judge(batches) if batches else None

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:
        """How well it answers a split, or `limit` dialogues, of all tasks in turn; spoken replies and text of its own, too."""
        dialogues = list(islice(self.data.split(split).all(), limit))
        answered, estimates, controls = judge_with_controls(
            self.respondent(), dialogues, self.media_features(split), max_reply=self.config.max_reply
        )
        verdict = judge_answers(estimates, generated=self.data.corpus.generated)
        said = KEPT if verdict.word == "not learned" else SAID
        spoken, writing = self._evaluate_speech(answered, judge, said), self._evaluate_writing(split, limit)
        preferred = self._judge_pairs(split, limit)
        if preferred is not None:
            estimates = {**estimates, "preferred": rate(preferred.right)}
        headline = next(iter(estimates))
        return Report(
            headline,
            "lower" if headline.startswith("wer_") else "higher",
            {**{name: one.value for name, one in estimates.items()}, **spoken.metrics, **writing.metrics},
            len(dialogues),
            controls={**controls, **spoken.controls, **writing.controls},
            estimates={**estimates, **spoken.estimates, **writing.estimates},
            verdict=verdict,
            predictions=[prediction(one, self.data.corpus, split) for one in answered],
            images={"answers.png": answer_sheet(answered, self.data.corpus.images(split))},
            audio=spoken.audio,
        )

    def _evaluate_speech(self, answered: Sequence[DialogueResult], judge: Judge | None, most: int) -> SpokenReplies:
        """Some of the answers, said by the Talker; none without it or without a judge."""
        if "talker" not in self.parts or judge is None:
            return SpokenReplies({}, {}, {}, {})
        voice = open_voice(self.parts["talker"], device=self.device, cache=self._cache)
        evaluator = TalkerEvaluator(voice, judge, self.config.train.seed)
        return say_replies([one.answer for one in answered], evaluator, most=most)

    def _evaluate_writing(self, split: Split, limit: int | None) -> WritingResult:
        """How well the Thinker still writes the text that is replayed: the metrics of stage A, named as there but for the loss."""
        if self.config.data.replay == 0:
            return WritingResult({}, {}, {})
        generated = all(tinyworld_seed(source) is not None for source in (self.config.data.source, self.pretrained.data.source))
        source = self.config.data.source if generated else None
        config = read_config(self.parts["pretrain"], Pretrain.name, PretrainConfig, source=source)
        pretrain = Pretrain(config, open_corpus(config.data), self.tokenizer, cache=self._cache, thinker=self.model.thinker)
        report = pretrain.evaluate(split, limit=limit)
        return WritingResult(name_as_text(report.metrics), name_as_text(report.estimates), report.controls)

    def respondent(self) -> Respondent:
        """The model, ready to answer."""
        self.model.eval()
        for encoder in self._modules.values():
            encoder.to(self.device).eval()
        features = self.features if self.learns_to_perceive else None
        return Respondent(self.model, self.template, self.placed, features)


STAGE: type[TrainableStage] = Sft
