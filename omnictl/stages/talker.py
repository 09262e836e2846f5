"""Stage D, last part: the Talker learns to say a text in the codec's codes.

    loss = −Σ ln p(code | text, codes before it) + w · Σ (ln d̂ − ln d)²   ÷ number of codes

d is how long a symbol lasts by the aligner, d̂ what the Talker predicts. In training a tenth of the codes that it reads back are any
others, since it will read its own mistakes. Sources: Ren et al. 2021 (FastSpeech 2: durations), Copet et al. 2023 (delay pattern).
Headline metric of an evaluation: `cer_free_running`, how a recogniser of stage B understands what the Talker says.

    omnictl talker --preset tiny [--data my/recordings]
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.speech.batches.codes import (
    NOTHING,
    CodedBatch,
    CodedBatches,
    CodedSpeech,
    CodesLayout,
    collate_codes,
    evaluation_batches,
)
from omnictl.data.speech.corpus import SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet
from omnictl.data.speech.source import Recordings, first_utterances, open_recordings, pronunciation_of, read_recordings
from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.errors import ConfigError
from omnictl.evaluation.talker import Judge, Sentence, TalkerEvaluator, talker_report
from omnictl.features.speech_codes import code_speech
from omnictl.generate.griffin_lim import synthesise
from omnictl.generate.tts import CodeSampling, Voice
from omnictl.metrics.error_rates import by_pair, character_errors
from omnictl.metrics.intervals import Estimate
from omnictl.models.aligner import STRIDE
from omnictl.models.codec import CodecConfig
from omnictl.models.talker import CAPACITY, LONGEST_DURATION, Interface, Talker, TalkerConfig, training_flops
from omnictl.nn.arithmetic import at_least_fp32
from omnictl.nn.audio.delay_pattern import undelay
from omnictl.nn.conv import valid_mask
from omnictl.nn.rvq import perplexity
from omnictl.runs.files import read_json
from omnictl.runs.model_folder import described_field, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.aligner import alignable, open_alignment
from omnictl.stages.codec import CodecStage, CodecTraining
from omnictl.stages.protocol import StageContext, TrainableStage, open_model
from omnictl.stages.voice import VocoderKind, VoiceParts, folders_in
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig, train_with_muon
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

VALIDATED_FRAMES = 4_000
"""Frames of codes judged at a time."""

SAMPLE = "sample.wav"
"""Of each validation."""

UNTRAINED_SENTENCES = 20
"""Number of sentences that the untrained control says."""

THINKER_WEIGHTS = "thoughts.weight"
"""What a Talker makes of the states of a Thinker that reads along."""

logger = logging.getLogger(__name__)


class TalkerRecipe(Config):
    """How the Talker is trained."""

    model: TalkerConfig = TalkerConfig()
    books: int = Field(0, ge=0, le=1_000, description="of the codec's books, the first so many that it writes; 0: all")
    corruption: float = Field(0.1, ge=0, lt=1, description="share of the codes read back that are replaced by any others")
    duration_weight: float = Field(
        2.0, ge=0, description="weight of the squared error of a duration's logarithm beside a code's nats"
    )
    sampling: CodeSampling = CodeSampling()
    train: TrainConfig = TrainConfig()


class TalkerTraining(TalkerRecipe):
    """Config of the Talker's training."""

    data: SpeechDataConfig = SpeechDataConfig(voices="one")
    vocoder: VocoderKind = "griffin-lim"


PRESETS: Mapping[str, TalkerTraining] = {
    "debug": TalkerTraining(
        model=TalkerConfig(layers=1, width=32, heads=2, hidden=64, text_layers=1, dropout=0.0),
        data=SpeechDataConfig(voices="one", num_utterances=32, num_eval_utterances=4),
        train=DEBUG_TRAINING,
    ),
    "tiny": TalkerTraining(
        data=SpeechDataConfig(voices="one", num_utterances=4_000, num_eval_utterances=200),
        train=train_with_muon(steps=500, batch_size=32, every=250, schedule=ScheduleConfig(warmup_steps=50, decay_fraction=0.7)),
    ),
    "small": TalkerTraining(
        model=TalkerConfig(layers=12, width=512, heads=8, hidden=1408, text_layers=4),
        data=SpeechDataConfig(voices="one", num_utterances=50_000, num_eval_utterances=1_000),
        train=TrainConfig(
            steps=60_000, batch_size=64, lr=1e-3, eval_every=2000, save_every=2000, schedule=ScheduleConfig(warmup_steps=500)
        ),
    ),
}


class TalkerStage:
    """The Talker, the codec it speaks through, its recordings, its loss."""

    name: ClassVar[str] = "talker"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("codec", "aligner")

    def __init__(
        self,
        config: TalkerTraining,
        parts: Mapping[str, Path],
        speakers: Sequence[str],
        *,
        cache: Path,
        data: Recordings | None = None,
    ) -> None:
        self.config, self.speakers, self._cache = config, tuple(speakers), cache
        self.parts = parts
        self.pronunciation = pronunciation_of(config.data)
        self._voice_parts = VoiceParts(parts, config.vocoder, cache=cache)
        self.codec, self.thinker = self._voice_parts.codec, self._voice_parts.thinker
        shape = self.codec.config
        self.layout = CodesLayout(shape.stride // STRIDE, shape.quantiser.codes)
        torch.manual_seed(config.train.seed)
        self.model = Talker(
            config.model,
            Interface(
                num_symbols=self.pronunciation.num_symbols,
                books=config.books or shape.quantiser.books,
                codes=shape.quantiser.codes,
                subframes=self.layout.subframes,
                speakers=len(self.speakers) if len(self.speakers) > 1 else 0,
                thinker_width=self.thinker.model.config.width if self.thinker else 0,
            ),
        )
        self.data = data or open_sayable(config.data, shape, cache)
        self._coded: dict[Split, CodedSpeech] = {}

    @classmethod
    def create(cls, config: TalkerTraining, *, context: StageContext) -> "TalkerStage":
        """A fresh Talker for the codec and the durations of the models upstream, or one with another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            CheckpointError: a model folder holds no complete model, or the other run one of another shape.
        """
        codec = read_config(context.upstream["codec"], CodecStage.name, CodecTraining).model
        data = open_sayable(config.data, codec, context.cache)
        data.check()
        _check_symbols(config.data, context.upstream)
        speakers = sorted({row.speaker for row in data.training_set.recordings if row.speaker is not None})
        return context.start(cls(config, context.upstream, speakers, cache=context.cache, data=data))

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "TalkerStage":
        """The Talker of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, TalkerTraining, source=data)
        speakers = described_field(folder, cls.name, "speakers", list)
        return cls(config, folders_in(folder), speakers, cache=cache)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights, the codec and the aligner among it: it needs no other run."""
        write_description(folder, self.name, self.config, speakers=list(self.speakers))
        self._voice_parts.copy_into(folder)

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run of the same shape, whether or not a Thinker of the same width read along there.

        Raises:
            CheckpointError: it has no complete model, or one of another shape.
        """
        own = {name: tensor for name, tensor in self.model.state_dict().items() if name == THINKER_WEIGHTS}

        def adapt(weights: dict[str, Tensor]) -> dict[str, Tensor]:
            if THINKER_WEIGHTS in weights and (not own or weights[THINKER_WEIGHTS].shape != own[THINKER_WEIGHTS].shape):
                logger.info("left out what %s learned of a Thinker's states: none of that width reads along here", run.path)
                del weights[THINKER_WEIGHTS]
            return own | weights

        load_weights(run.model / "model.safetensors", self.model, adapt)

    def code_split(self, split: Split) -> CodedSpeech:
        """A split in codes, with durations; made in fp32, whatever the caller computes in."""
        if split not in self._coded:
            with torch.autocast(self.codec.mean.device.type, enabled=False):
                self._coded[split] = self._code(split)
        return self._coded[split]

    def _code(self, split: Split) -> CodedSpeech:
        utterances = self.data.training_set if split == "train" else self.data.split(split)
        numbers = {name: number for number, name in enumerate(self.speakers)}
        speakers = [numbers.get(row.speaker or "", 0) for row in utterances.recordings]
        coded = code_speech(utterances, split, speakers, self.codec, self.parts, open_alignment, self._cache)
        states = [self.thinker(text) for text in utterances.texts] if self.thinker else None
        return replace(coded, codes=[codes[: self.model.interface.books] for codes in coded.codes], thinker_states=states)

    def batches(self) -> CodedBatches:
        """Utterances of similar length, some of their codes corrupted."""
        train = self.config.train
        return CodedBatches(
            self.code_split("train"), self.layout, batch_size=train.batch_size, seed=train.seed, corruption=self.config.corruption
        )

    def loss(self, batch: CodedBatch) -> LossSum:
        """Nats of the codes and squared errors of the durations' logarithms, counted in codes."""
        errors = self._errors(batch)
        count = int((batch.targets != NOTHING).sum())
        scalars = {"nats": errors.nats.detach(), "duration_error": errors.durations.detach()}
        return LossSum(errors.nats + self.config.duration_weight * errors.durations, count, scalars)

    def _errors(self, batch: CodedBatch) -> "Errors":
        states = self.read(batch)
        device = states.device
        targets = batch.targets.mT.flatten().to(device)  # (B * L * K)
        scores = self.scores(batch, states).flatten(0, 2)  # (B * L * K, V)
        wide = at_least_fp32(scores.dtype)
        nats = F.cross_entropy(scores.to(wide), targets, ignore_index=NOTHING, reduction="sum")
        valid = valid_mask(batch.symbol_lengths, batch.symbols.shape[1]).to(device)
        wanted = batch.durations.to(device).clamp(min=1).to(wide).log()
        predicted = self.model.log_durations(states).to(wide)
        return Errors(nats, ((predicted - wanted).square() * valid).sum())

    def read(self, batch: CodedBatch) -> Tensor:
        """States `(B, T, D)` of the batch's symbols."""
        device = self.model.cos.device
        speakers = batch.speakers.to(device)
        conditioning = None if batch.thinker_states is None else batch.thinker_states.to(self.model.head.weight)
        states: Tensor = self.model.read(batch.symbols.to(device), batch.symbol_lengths.to(device), speakers, conditioning)
        return states

    def scores(self, batch: CodedBatch, states: Tensor) -> Tensor:
        """Scores `(B, L, K, V)` of every code of the batch after the ones before it."""
        device = states.device
        frames = self.model.frames(states, type(batch.spread)(*(part.to(device) for part in batch.spread)))
        delay = self.model.interface.books - 1
        scores: Tensor = self.model.scores(F.pad(frames, (0, 0, 0, delay)), batch.history.to(device))
        return scores

    def work(self, batch: CodedBatch) -> Work:
        """Seconds of audio and floating-point operations of a training step on this batch, padding not counted."""
        frames = int(batch.lengths.sum())
        return Work(
            units=frames / self.codec.config.frames_hz,
            flops=training_flops(self.model, batch.lengths, batch.symbol_lengths),
            positions=frames,
            slots=len(batch.lengths) * int(batch.lengths.max()),
        )

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass as large as a validation batch: many utterances are scored at once, but spoken one at a time."""
        return (pass_of(self, batches, VALIDATED_FRAMES),)

    @torch.no_grad()
    def validate(self) -> Report:
        """Nats of a code on the validation split, and how far off durations are."""
        self.model.eval()
        coded = self.code_split("val")
        nats, durations, codes, symbols = 0.0, 0.0, 0, 0
        for _, batch in evaluation_batches(coded, self.layout, VALIDATED_FRAMES):
            errors = self._errors(batch)
            nats, durations = nats + float(errors.nats), durations + float(errors.durations)
            codes, symbols = codes + int((batch.targets != NOTHING).sum()), symbols + int(batch.symbol_lengths.sum())
        metrics = {"nats_per_code": nats / codes, "duration_rms": (durations / symbols) ** 0.5}
        sample, audio = {"prompt": "the likeliest codes after recorded ones, as audio", "audio": SAMPLE}, self._sample_audio(coded)
        return Report("nats_per_code", "lower", metrics, len(coded), predictions=[sample], audio={SAMPLE: audio})

    def _sample_audio(self, coded: CodedSpeech) -> bytes:
        """A sentence of a split as WAV, each code the likeliest after the recorded ones."""
        with torch.random.fork_rng(devices=[]):  # models that are opened for it draw weights first
            voice = self.voice()
        with torch.no_grad(), torch.autocast(self.model.cos.device.type, enabled=False):
            mel = voice.codec.decode(self.guess(coded, 0)[None].to(voice.codec.mean.device))[0].cpu()
        return wav_bytes(synthesise(voice.vocoder, mel), voice.vocoder.sample_rate)

    def voice(self) -> Voice:
        """The Talker with its codec and a vocoder, ready to speak."""
        self.model.eval()
        longest = (CAPACITY - self.model.interface.books) * self.layout.subframes // LONGEST_DURATION - 2  # without the edges
        return replace(
            self._voice_parts.give_voice(self.model, longest, self.config.sampling, self.speakers), pronunciation=self.pronunciation
        )

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:
        """How a recogniser understands a split or its first `limit` sentences: recorded, resynthesised, and said by the Talker."""
        assert judge is not None, "a recogniser is to be chosen first"
        utterances = first_utterances(self.data.split(split), limit)
        coded, voice = self.code_split(split), self.voice()
        evaluator = TalkerEvaluator(voice, judge, self.config.train.seed)
        originals = read_recordings(self.data.corpus, split, utterances, voice.vocoder.sample_rate)
        said = [
            evaluator.evaluate(
                Sentence(
                    self._text_to_say(utterances, index),
                    recording,
                    torch.from_numpy(coded.codes[index]).long(),
                    self.guess(coded, index),
                    coded.speakers[index],
                    coded.durations[index].tolist(),
                    utterances.texts[index],
                )
            )
            for index, recording in enumerate(originals)
        ]
        return talker_report(
            utterances.recordings,
            said,
            voice,
            self._codec_metrics(utterances, coded),
            self._untrained(evaluator, utterances, coded),
        )

    def _codec_metrics(self, utterances: SpeechSet, coded: CodedSpeech) -> dict[str, float]:
        shape = self.codec.config.quantiser
        counts, error, frames = torch.zeros(self.model.interface.books, shape.codes), 0.0, 0
        for index in range(len(utterances)):
            mel, codes = torch.from_numpy(utterances.features(index)), torch.from_numpy(coded.codes[index]).long()
            back = self.codec.decode(codes.to(self.codec.mean.device)[None])[0, : len(mel)].cpu()
            error += float(((back - mel) / self.codec.std.cpu()).square().mean(-1).sum())
            frames += len(mel)
            counts += torch.stack([torch.bincount(book, minlength=shape.codes) for book in codes])
        return {"mel_mse": error / frames, "codebook_perplexity_min_ratio": float(perplexity(counts).min()) / shape.codes}

    def _untrained(self, evaluator: TalkerEvaluator, utterances: SpeechSet, coded: CodedSpeech) -> Estimate:
        """The control: errors on the speech of a Talker that has learned nothing but how long symbols last on average."""
        fresh = Talker(self.config.model, self.model.interface).to(self.codec.mean.device).eval()
        typical = np.concatenate(coded.durations).clip(1)
        fresh.expect_durations(float(np.log(typical).mean()))
        some = range(min(UNTRAINED_SENTENCES, len(utterances)))
        mute = replace(evaluator, voice=replace(evaluator.voice, talker=fresh))
        texts = [self._text_to_say(utterances, index) for index in some]
        transcripts = [mute.transcribe(text, coded.speakers[index]) for index, text in zip(some, texts, strict=True)]
        return by_pair(character_errors, list(map(self.pronunciation.words, texts)), transcripts)

    def _text_to_say(self, utterances: SpeechSet, index: int) -> str:
        """An utterance's text: spelled out, which is said the same, or as it is written, for espeak-ng to read."""
        return utterances.texts[index] if isinstance(self.pronunciation, ReadAloud) else utterances.recordings[index].text

    @torch.no_grad()
    def guess(self, coded: CodedSpeech, index: int) -> Tensor:
        """The likeliest codes `(K, S)` of an utterance, each after the recorded ones before it, for the recorded durations."""
        batch = collate_codes(coded, [index], [coded.codes[index]], self.layout)
        return undelay(self.scores(batch, self.read(batch)).argmax(-1).mT)[0]


STAGE: type[TrainableStage] = TalkerStage


def open_sayable(config: SpeechDataConfig, codec: CodecConfig, cache: Path) -> Recordings:
    """Recordings that are read aloud word by word, with those too short for their text or too long for a Talker set aside."""
    select = partial(_sayable, codec=codec)
    return open_recordings(config, codec.mel, pronunciation_of(config), cache, trainable=select, judgeable=select)


def _sayable(utterances: SpeechSet, codec: CodecConfig) -> SpeechSet:
    aligned, hertz = alignable(utterances), codec.mel.frames_hz
    most = codec.stride * (CAPACITY + 1 - codec.quantiser.books)  # each book begins a step after the one before
    lengths = enumerate(aligned.lengths().tolist())
    return aligned.without(
        {i: f"too long for a Talker: {n / hertz:.1f} s, at most {most / hertz:.1f} s" for i, n in lengths if n > most}
    )


def _check_symbols(data: SpeechDataConfig, parts: Mapping[str, Path]) -> None:
    """Refuse parts that read other symbols than the Talker.

    Raises:
        ConfigError: there is one.
    """
    described = read_json(parts["aligner"] / "config.json")
    is_recogniser = described.get("stage") != "aligner"
    own = (data.symbols, data.language if data.symbols == "phonemes" else None)
    aligned = described["config"]["data"] if not is_recogniser else {}
    symbols = aligned.get("symbols", "letters")
    if own != (symbols, aligned.get("language") if symbols == "phonemes" else None):
        raise ConfigError(
            f"the Talker reads {data.symbols} ({data.language}), its aligner {symbols}"
            + (f" ({aligned['language']})" if symbols == "phonemes" else ""),
            where="data.symbols",
            fix="leave --aligner out: one is learned then, or give data.symbols and data.language as the aligner has them",
        )
    if data.symbols == "phonemes" and "thinker" in parts:
        raise ConfigError("a Thinker reads letters along, not phonemes", where="--thinker", fix="leave --thinker out")


def open_voice(folder: Path, *, device: torch.device, cache: Path) -> Voice:
    """The voice of a Talker's model folder, ready to speak.

    Raises:
        CheckpointError: it holds no complete model.
    """
    return open_model(TalkerStage, folder, device=device, cache=cache).voice()


class Errors(NamedTuple):
    """What the Talker gets wrong in a batch."""

    nats: Tensor  # ()
    durations: Tensor  # () squared errors of their logarithms
