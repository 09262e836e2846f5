"""Stage A: the Thinker learns to predict the next token of a text corpus.

    loss = −Σ ln p(token_t | tokens_<t of the same document) ÷ number of tokens

Documents are packed into windows without attending to one another; the first token is predicted from `<|end|>`, and the end
itself is predicted too. Headline metric: perplexity. On TinyWorld the exact optimum is known and the distance to it is reported.

    omnictl pretrain --preset tiny [--data my.txt]
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.text.batches import TextBatch, TextBatches, evaluation_batches
from omnictl.data.text.corpus import Corpus, TextDataConfig
from omnictl.data.text.curriculum import CurriculumBatches
from omnictl.data.text.source import open_corpus
from omnictl.data.text.tinyworld import TinyWorldLessons, TinyWorldText
from omnictl.data.text.token_store import TokenStore, TokenStores, first_documents
from omnictl.data.text.tokenizer import END, Tokenizer
from omnictl.errors import CheckpointError, ConfigError
from omnictl.evaluation.information_limit import TokenScores, document_sums, information_limit
from omnictl.evaluation.talker import Judge
from omnictl.generate.sampling import SamplingConfig
from omnictl.generate.token_decoder import Prompt, generate
from omnictl.metrics.intervals import Estimate, ratio
from omnictl.metrics.ngram import unigram_nats
from omnictl.metrics.text import bits_per_byte, perplexity
from omnictl.metrics.verdict import judge_pretrain
from omnictl.models.thinker import Thinker, ThinkerConfig, training_flops
from omnictl.nn.losses.cross_entropy import IGNORE, cross_entropy_sum, score_rows
from omnictl.runs.model_folder import described_field, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext, TrainableStage
from omnictl.tinyworld.text.lessons import LessonKind
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, RuntimeConfig, ScheduleConfig, TrainConfig
from omnictl.trainer.distributed.dtensor import in_slices
from omnictl.trainer.plan.model_size_limit import limit_to_weights
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

TOKENIZER_CHARACTERS = 4_000_000
"""Characters of the training split that the BPE learns its merges from."""

EVALUATION_POSITIONS = 8192
"""Positions scored at a time: enough to keep a CPU busy, less than a training step holds."""

NUM_SAMPLES, SAMPLE_TOKENS = 2, 40
"""Documents that are gone on with at each validation, and for how many tokens."""

NUM_CONTINUATIONS = 20
"""Test documents whose second half is written greedily, as samples to read."""


class PretrainConfig(Config):
    """Config of stage A."""

    model: ThinkerConfig = ThinkerConfig()
    data: TextDataConfig = TextDataConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        if self.data.seq_len > self.model.context:
            raise ValueError(f"data.seq_len {self.data.seq_len} exceeds model.context {self.model.context}")
        return self


PRESETS: Mapping[str, PretrainConfig] = {
    # Seconds on a CPU: for trying things out and for the tests.
    "debug": PretrainConfig(
        model=ThinkerConfig(layers=2, width=32, heads=2, kv_heads=1, hidden=64, context=128),
        data=TextDataConfig(num_documents=200, num_eval_documents=20, vocab_size=320, seq_len=64),
        train=DEBUG_TRAINING,
    ),
    # Minutes on a laptop CPU.
    "tiny": PretrainConfig(
        model=ThinkerConfig(layers=3, width=256, heads=4, kv_heads=2, hidden=512, context=512),
        data=TextDataConfig(num_documents=40_000, num_eval_documents=500, vocab_size=1280, seq_len=256),
        train=TrainConfig(
            steps=1000, batch_size=12, lr=2e-2, eval_every=250, save_every=250, schedule=ScheduleConfig(decay_fraction=0.8)
        ),
    ),
    # Hours on a 12 GB GPU, on text of one's own: 85M parameters.
    "small": PretrainConfig(
        model=ThinkerConfig(layers=12, width=640, heads=10, kv_heads=5, hidden=1920, context=1024, rope_theta=100_000.0),
        data=TextDataConfig(num_documents=2_000_000, vocab_size=16_384, seq_len=1024),
        train=TrainConfig(
            steps=6_000,
            batch_size=128,
            lr=1e-2,
            eval_every=1000,
            save_every=1000,
            schedule=ScheduleConfig(warmup_steps=500),
            runtime=RuntimeConfig(compile=True, log_every=10),
        ),
    ),
}


class Pretrain:
    """The Thinker, its text, its loss."""

    name: ClassVar[str] = "pretrain"
    unit: ClassVar[str] = "tokens"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, config: PretrainConfig, corpus: Corpus, tokenizer: Tokenizer, *, cache: Path, thinker: Thinker | None = None
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.data = TokenStores(corpus, tokenizer, cache)
        torch.manual_seed(config.train.seed)
        self.model = Thinker(config.model, tokenizer.vocab_size) if thinker is None else thinker

    @classmethod
    def create(cls, config: PretrainConfig, *, context: StageContext) -> "Pretrain":
        """A fresh Thinker with a tokenizer learned from the training split, or with another run's tokenizer and weights.

        Raises:
            DataError: the data cannot be read or does not suit the config.
            ConfigError: the other run has another kind or size of tokenizer.
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        corpus = open_corpus(config.data)
        tokenizer = _learn_tokenizer(corpus, config.data) if context.init is None else _inherit_tokenizer(context.init, config.data)
        stage = cls(config, corpus, tokenizer, cache=context.cache)
        stage.batches()  # both splits must be readable and long enough before anything is written
        stage.data.split("val")
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "Pretrain":
        """The Thinker of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, PretrainConfig, source=data)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        return cls(config, open_corpus(config.data), tokenizer, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights."""
        chat = "chatml" if self.data.corpus.markup else "text"
        write_description(folder, self.name, self.config, vocab_size=self.tokenizer.vocab_size, chat=chat)
        if self.data.corpus.markup:
            self.tokenizer.save_for_chat(folder)
        else:
            self.tokenizer.save(folder / "tokenizer.json")

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run, whose tokenizer this stage already has."""
        load_weights(run.model / "model.safetensors", self.model)

    def batches(self) -> TextBatches | CurriculumBatches:
        """Packed windows of the training split, on TinyWorld after the lessons of the curriculum."""
        documents, curriculum = self._windows(self.data.corpus), self.config.data.curriculum
        if not (curriculum.phases and isinstance(self.data.corpus, TinyWorldText)):
            return documents
        seed = self.data.corpus.seed

        def open_lessons(kind: LessonKind) -> TextBatches:
            return self._windows(TinyWorldLessons(seed, kind, curriculum.num_lessons))

        return CurriculumBatches(documents, curriculum, open_lessons)

    def _windows(self, corpus: Corpus) -> TextBatches:
        return TextBatches(
            self.data._replace(corpus=corpus).split("train"),
            seq_len=self.config.data.seq_len,
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
        )

    def loss(self, batch: TextBatch) -> LossSum:
        """Cross-entropy in nats, and the experts' balance term if there are experts."""
        device = self.model.embedding.weight.device
        output = self.model(batch.tokens.to(device), segments=_to(batch.segments, device))
        nats = cross_entropy_sum(output.hidden.flatten(0, 1), self.model.embedding.weight, batch.targets.to(device).flatten())
        return add_balance(nats, output.balance, self.config.model.balance_weight, batch.num_targets)

    def work(self, batch: TextBatch) -> Work:
        """Tokens and floating-point operations of a training step on this batch, padding not counted."""
        flops = training_flops(self.model, _document_lengths(batch))
        return Work(batch.num_targets, flops, positions=batch.num_targets, slots=batch.tokens.numel())

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass as large as an evaluation batch: many windows are scored at once."""
        return (pass_of(self, batches, EVALUATION_POSITIONS),)

    def validate(self) -> Report:
        """Perplexity on the validation split."""
        store = self.data.split("val")
        wanted = 0 if in_slices(self.model) else NUM_SAMPLES
        documents = islice(self.data.corpus.documents("val"), wanted)
        with torch.autocast(self.model.embedding.weight.device.type, enabled=False):  # as it writes in use
            samples = list(self._continuations(documents, "val", most_tokens=SAMPLE_TOKENS))
        return _report(_text_metrics(self.score(store).nats, store), store, samples)

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """Perplexity on a split or its first `limit` documents, and a unigram model's; on TinyWorld also how far the optimum is."""
        store = self.data.split(split)
        if limit is not None and limit < store.num_documents:
            store = first_documents(store, limit, self.tokenizer)
        scores = self.score(store)
        documents = list(islice(self.data.corpus.documents(split), store.num_documents))
        training = self.data.split("train").tokens
        estimates = _text_estimates(scores.nats, store, documents)
        unigram = _text_estimates(unigram_nats(training, store.tokens, self.tokenizer.vocab_size), store, documents)
        estimates = {name: one.against(f"{name}_unigram", unigram[name], "lower") for name, one in estimates.items()}
        if isinstance(self.data.corpus, TinyWorldText):
            estimates |= information_limit(documents, self.tokenizer, scores, store=store, training=training)
        metrics = _text_metrics(scores.nats, store) | {name: one.value for name, one in estimates.items()}
        report = _report(metrics, store, list(self._continuations(documents[:NUM_CONTINUATIONS], split)))
        controls = {
            one.control.name: one.control.value for one in estimates.values() if one.control and one.control.name not in metrics
        }
        return replace(report, controls=controls, estimates=estimates, verdict=judge_pretrain(estimates))

    def score(self, store: TokenStore) -> TokenScores:
        """Scores of every token of a store."""
        device = self.model.embedding.weight.device
        nats, hits = np.zeros(len(store.tokens)), np.zeros(len(store.tokens), np.bool_)
        self.model.eval()
        length = self.config.data.seq_len
        for batch in evaluation_batches(store, seq_len=length, batch_size=max(1, EVALUATION_POSITIONS // length)):
            scored = batch.targets.flatten() != IGNORE  # (B * T)
            targets = batch.targets.flatten()[scored].to(device)  # (N)
            with torch.no_grad():
                output = self.model(batch.tokens.to(device), segments=_to(batch.segments, device))
                hidden = output.hidden.flatten(0, 1)[scored.to(device)]  # (N, D)
                rows = score_rows(hidden, self.model.embedding.weight, targets)
            index = batch.index.flatten()[scored].numpy()
            nats[index], hits[index] = rows.nats.cpu().numpy(), rows.is_likeliest.cpu().numpy()
        return TokenScores(nats, hits)

    def _continuations(
        self, documents: Iterable[str], split: Split, *, most_tokens: int | None = None
    ) -> Iterator[dict[str, object]]:
        """Documents cut in the middle and finished greedily, or gone on with for so many tokens."""
        greedy = SamplingConfig(temperature=0)
        for number, document in enumerate(documents):
            ids = self.tokenizer.encode(document, markup=self.data.corpus.markup)[: self.config.data.seq_len]
            if len(ids) < 2:  # nothing is left to be continued
                continue
            half = len(ids) // 2
            ids = ids if most_tokens is None else ids[: half + most_tokens]
            written = generate(
                self.model,
                Prompt.of(self.model, [END, *ids[:half]]),
                max_tokens=len(ids) - half,
                sampling=greedy,
                stop={END},
                generator=torch.Generator(),
            )
            yield {
                "id": f"{split}/{number}",
                "task": "continue",
                "prompt": self.tokenizer.decode(ids[:half]),
                "reference": self.tokenizer.decode(ids[half:]),
                "prediction": self.tokenizer.decode(written),
            }


STAGE: type[TrainableStage] = Pretrain


def _learn_tokenizer(corpus: Corpus, config: TextDataConfig) -> Tokenizer:
    if config.tokenizer == "char":
        return Tokenizer.train_char(corpus.documents("train"))
    return Tokenizer.train_bpe(_first_characters(corpus.documents("train"), TOKENIZER_CHARACTERS), config.vocab_size)


def _inherit_tokenizer(init: Run, config: TextDataConfig) -> Tokenizer:
    """The tokenizer that goes with the weights of `init`."""
    tokenizer = Tokenizer.load(init.model / "tokenizer.json")
    wanted = (config.tokenizer, config.vocab_size if config.tokenizer == "bpe" else tokenizer.vocab_size)
    inherited = (tokenizer.kind, tokenizer.vocab_size)
    if inherited != wanted:
        raise ConfigError(
            f"the weights of {init.path} go with a {inherited[0]} tokenizer of {inherited[1]} tokens, "
            f"the config asks for {wanted[0]} of {wanted[1]}",
            where="data.tokenizer, data.vocab_size",
            fix=f"--set data.tokenizer={inherited[0]} --set data.vocab_size={inherited[1]}, or start without --init",
        )
    return tokenizer


def _report(metrics: dict[str, float], store: TokenStore, predictions: Sequence[dict[str, object]] = ()) -> Report:
    return Report("perplexity", "lower", metrics, store.num_documents, predictions=predictions)


def _text_metrics(nats: NDArray[np.float64], store: TokenStore) -> dict[str, float]:
    total = float(nats.sum())
    return {
        "perplexity": perplexity(total, store.num_predictions),
        "loss": total / store.num_predictions,
        "bits_per_byte": bits_per_byte(total, store.num_bytes),
    }


class TrainedThinker(NamedTuple):
    """A Thinker in fp32 and what reads and writes its tokens."""

    model: Thinker
    tokenizer: Tokenizer


def add_balance(nats: Tensor, balance: Tensor | None, weight: float, count: int) -> LossSum:
    """The loss of `count` tokens of a Thinker: their nats and, if it has experts, the balance of every position."""
    if balance is None:
        return LossSum(nats, count, {})
    total = balance.sum()
    return LossSum(nats + weight * total, count, {"nats": nats.detach(), "balance": total.detach()})


def open_thinker(folder: Path) -> TrainedThinker:
    """The Thinker of a model folder, without its data, which may be gone.

    Raises:
        CheckpointError: it holds none, or a damaged one.
    """
    vocab_size = described_field(folder, Pretrain.name, "vocab_size", int)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{folder}/tokenizer.json has {tokenizer.vocab_size:,} tokens, its config.json says {vocab_size:,}",
            where=f"{folder}/tokenizer.json",
            fix="restore the files from where they came",
        )
    with limit_to_weights(folder):
        model = Thinker(read_config(folder, Pretrain.name, PretrainConfig).model, vocab_size)
    load_weights(folder / "model.safetensors", model)
    return TrainedThinker(model, tokenizer)


def _text_estimates(nats: NDArray[np.float64], store: TokenStore, documents: Sequence[str]) -> dict[str, Estimate]:
    """The metrics with their intervals, over documents."""
    by_document = document_sums(nats, store)
    loss = ratio(by_document, np.diff(store.bounds))
    return {
        "perplexity": loss.map_value(lambda value: perplexity(value, 1), "amount"),
        "loss": loss,
        "bits_per_byte": ratio(by_document / math.log(2), [len(document.encode()) for document in documents]),
    }


def _document_lengths(batch: TextBatch) -> Tensor:
    """Positions of every piece in a batch, `(pieces,)`."""
    rows, length = batch.tokens.shape
    if batch.segments is None:
        return torch.full((rows,), length)
    numbered = batch.segments + torch.arange(rows)[:, None] * length  # (B, T), different in every row
    return torch.bincount(numbered[batch.segments >= 0])


def _first_characters(documents: Iterator[str], limit: int) -> Iterator[str]:
    """Documents until they hold `limit` characters; the last one is cut."""
    left = limit
    for document in documents:
        yield document[:left]
        left -= len(document)
        if left <= 0:
            return


def _to(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
