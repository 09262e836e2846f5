"""Stage B: the audio encoder learns to turn speech into text.

    loss = −Σ ln p(transcript | audio) ÷ number of symbols,   p = Σ over all paths that spell the transcript (CTC)

Source: Graves et al. 2006 (CTC). Headline metric: word error rate, both texts after Whisper's English
normaliser, or after Unicode's alone where targets are the characters of the data (`targets.kind=chars`).

    omnictl asr --preset tiny [--data my/librispeech]
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice, starmap
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from omnictl.config import Config
from omnictl.config.split import Split
from omnictl.data.audio.decoder import wav_bytes
from omnictl.data.speech.batches.utterances import SpeechBatch, SpeechBatches, evaluation_batches, pad
from omnictl.data.speech.corpus import Samples, SpeechCorpus, SpeechDataConfig
from omnictl.data.speech.examples import SpeechSet, drop_infeasible, find_infeasible, open_set
from omnictl.data.speech.source import first_utterances, open_recordings, open_speech, read_recordings, take_statistics
from omnictl.data.speech.transcripts import unicode_text
from omnictl.data.speech.transcripts.targets import BpeTargets, CharacterTargets, FoundCharacters, TargetKind, Targets
from omnictl.data.speech.transcripts.transcript import foreign_characters, normalise
from omnictl.errors import ConfigError, DataError
from omnictl.evaluation.alignment_images import ALIGNED, SUFFIX, ctc_image
from omnictl.evaluation.asr import (
    RecognitionResult,
    TranscriptionResult,
    error_rates,
    estimates_by_voices,
    recognition_report,
    samples,
)
from omnictl.evaluation.talker import Judge
from omnictl.features.media_encoders import AudioFrontend, MediaEncoder
from omnictl.generate.char_ngram import CharNgram
from omnictl.generate.ctc_decoder import Decoding, DecodingConfig
from omnictl.metrics.error_rates import normalise_english
from omnictl.models.audio_encoder import AudioEncoder, AudioEncoderConfig, Encoded, training_flops
from omnictl.nn.audio.mel import level_by_chunks, log_mel
from omnictl.nn.conv import SUBSAMPLING
from omnictl.nn.losses.ctc import ctc_nats, ctc_sum
from omnictl.runs.model_folder import described_field, read_config, write_description
from omnictl.runs.run import Run
from omnictl.stages.protocol import StageContext, TrainableStage, open_model
from omnictl.trainer.checkpoint import load_weights
from omnictl.trainer.config import DEBUG_TRAINING, ScheduleConfig, TrainConfig, train_with_muon
from omnictl.trainer.stage import Batches, LossSum, Report, Work, pass_of

EVALUATION_FRAMES = 24_000
"""Mel frames decoded at a time: four minutes of audio."""

TIMED_UTTERANCES = 20
"""Utterances that are read from audio to text one by one for the real-time factor."""

SPARE_SHARE = 0.001
"""Up to this share of the utterances may be too short for 25 Hz before the head emits at 50 Hz for their sake."""

logger = logging.getLogger(__name__)


class TargetConfig(Config):
    """What the model spells."""

    kind: TargetKind = Field(
        "characters", description="a to z, apostrophe and space; chars: those of the training transcripts, in any script"
    )
    vocab_size: int = Field(512, ge=1, le=1_000_000, description="pieces of the BPE")


class AsrConfig(Config):
    """Config of stage B."""

    model: AudioEncoderConfig = AudioEncoderConfig()
    data: SpeechDataConfig = SpeechDataConfig()
    targets: TargetConfig = TargetConfig()
    decoding: DecodingConfig = DecodingConfig()
    train: TrainConfig = TrainConfig()


PRESETS: Mapping[str, AsrConfig] = {
    # Seconds on a CPU: for trying things out and for the tests.
    "debug": AsrConfig(
        model=AudioEncoderConfig(layers=1, width=32, heads=2, hidden=64, kernel=5, dropout=0.0),
        data=SpeechDataConfig(num_utterances=48, num_eval_utterances=8),
        train=DEBUG_TRAINING,
    ),
    # Minutes on a laptop CPU.
    "tiny": AsrConfig(
        model=AudioEncoderConfig(dropout=0.0),
        data=SpeechDataConfig(num_utterances=6_000, time_mask=0.03, frequency_mask=8),
        decoding=DecodingConfig(beam=8),
        train=train_with_muon(steps=600, batch_size=32, every=300, schedule=ScheduleConfig(warmup_steps=50, decay_fraction=0.9)),
    ),
    # Hours on a 12 GB GPU, on recordings of one's own (100 hours and more).
    "small": AsrConfig(
        model=AudioEncoderConfig(layers=12, width=384, heads=6, hidden=1024, kernel=31),
        data=SpeechDataConfig(num_utterances=50_000, num_eval_utterances=2_000, speeds=(1.0, 0.9, 1.1)),
        targets=TargetConfig(kind="characters"),
        train=TrainConfig(
            steps=60_000, batch_size=64, lr=2e-3, eval_every=2000, save_every=2000, schedule=ScheduleConfig(warmup_steps=2000)
        ),
    ),
}


class Asr:
    """The audio encoder, its recordings, its loss."""

    name: ClassVar[str] = "asr"
    unit: ClassVar[str] = "seconds"
    divisible: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: AsrConfig,
        targets: Targets,
        speakers: frozenset[str],
        *,
        cache: Path,
        corpus: SpeechCorpus | None = None,
        language_model: CharNgram | None = None,
    ) -> None:
        self.config, self.targets, self.speakers, self._language_model = config, targets, speakers, language_model
        emissions, mel = config.model.emissions, config.model.mel
        assert emissions != "auto"
        trainable = partial(drop_infeasible, emissions=emissions, mel=mel)
        self.data = open_recordings(config.data, mel, targets, cache, trainable=trainable, corpus=corpus)
        torch.manual_seed(config.train.seed)
        self.model = AudioEncoder(config.model, targets.num_symbols)

    @classmethod
    def create(cls, config: AsrConfig, *, context: StageContext) -> "Asr":
        """A fresh audio encoder, or one that starts from another run's weights.

        Raises:
            DataError: the data cannot be read, or too much of it is broken.
            ConfigError: the other run spells other symbols.
            CheckpointError: the other run has no complete model, or one of another shape.
        """
        corpus = open_speech(config.data)
        targets = _learn_targets(corpus, config.targets) if context.init is None else _inherit_targets(context.init, config.targets)
        if config.model.emissions == "auto":
            config = _with_emissions(config, corpus, targets, context.cache, context.init)
        speakers = frozenset(row.speaker for row in corpus.recordings("train") if row.speaker is not None)
        stage = cls(config, targets, speakers, cache=context.cache, corpus=corpus)
        stage.data.check()
        take_statistics(stage.model, stage.data.training_set)
        return context.start(stage)

    @classmethod
    def open(cls, folder: Path, *, data: str | None, cache: Path) -> "Asr":
        """The encoder of a model folder (without its weights if it holds none yet), on its own data or on `data`."""
        config = read_config(folder, cls.name, AsrConfig, source=data)
        targets = _load_targets(folder, config.targets)
        speakers = frozenset(described_field(folder, cls.name, "speakers", list))
        language_model = CharNgram.load(folder / "ngram.safetensors") if config.decoding.beam > 1 else None
        return cls(config, targets, speakers, cache=cache, language_model=language_model)

    def save_description(self, folder: Path) -> None:
        """Write what the model folder holds besides the weights."""
        write_description(folder, self.name, self.config, num_symbols=self.targets.num_symbols, speakers=sorted(self.speakers))
        self.targets.save(folder)
        if self.config.decoding.beam > 1:
            self.language_model.save(folder / "ngram.safetensors")

    def take_weights(self, run: Run) -> None:
        """Take over the weights of another run, but not its features' statistics: those are of other recordings.

        A head that emits one symbol a frame becomes one that emits two by saying everything twice, which CTC reads the same.

        Raises:
            CheckpointError: it has no complete model, or one of another shape.
        """
        own_weights = self.model.state_dict()

        def adapt(weights: dict[str, Tensor]) -> dict[str, Tensor]:
            for name in ("head.weight", "head.bias"):
                if name in weights and 2 * len(weights[name]) == len(own_weights[name]):
                    weights[name] = torch.cat([weights[name], weights[name]])
            return weights | {name: own_weights[name] for name in ("mean", "std")}

        load_weights(run.model / "model.safetensors", self.model, adapt)

    @cached_property
    def language_model(self) -> CharNgram:
        """An n-gram of the training transcripts."""
        if self._language_model is not None:
            return self._language_model
        order = self.config.decoding.order
        return CharNgram.fit(self.data.training_set.targets, order, vocab_size=self.targets.num_symbols)

    @cached_property
    def decoding(self) -> Decoding:
        """How the model's scores are decoded."""
        config = self.config.decoding
        return Decoding() if config.beam == 1 else Decoding(config.beam, self.language_model, lm_weight=config.lm_weight)

    def batches(self) -> SpeechBatches:
        """Batches of utterances of similar length, augmented differently every time."""
        take_statistics(self.model, self.data.training_set)  # a run that is resumed before its first checkpoint has none yet
        config = self.config
        return SpeechBatches(
            self.data.training_set,
            config.data,
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            chunk_share=config.model.streaming.share,
        )

    def loss(self, batch: SpeechBatch) -> LossSum:
        """CTC loss in nats, counted in symbols."""
        rows, in_chunks = len(batch.lengths), batch.in_chunks
        parts = [(batch.rows(0, in_chunks), True), (batch.rows(in_chunks, rows), False)] if in_chunks else [(batch, False)]
        nats = torch.zeros((), device=self.model.mean.device)
        for part, chunked in parts:
            if len(part.lengths):
                logits = self.encode(part, in_chunks=chunked)
                nats = nats + ctc_sum(logits.frames, logits.lengths, part.targets, part.target_lengths)
        return LossSum(nats, int(batch.target_lengths.sum()), {})

    def work(self, batch: SpeechBatch) -> Work:
        """Seconds of audio and floating-point operations of a training step on this batch, padding not counted."""
        frames = int(batch.lengths.sum())
        return Work(
            units=frames / self.config.model.mel.frames_hz,
            flops=training_flops(self.model, batch.lengths),
            positions=frames,
            slots=batch.features.shape[0] * batch.features.shape[1],
        )

    def heaviest_passes(self, batches: Batches) -> Sequence[Callable[[], object]]:
        """A pass as large as an evaluation batch: many utterances are transcribed at once."""
        return (pass_of(self, batches, EVALUATION_FRAMES),)

    def validate(self) -> Report:
        """Error rates and loss on the validation split."""
        utterances = self.data.split("val")
        results = (transcription := self._transcribe(utterances, self.decoding)).results
        metrics = error_rates(results) | transcription.loss()
        if self.streams:
            metrics["wer_in_chunks"] = error_rates(self._transcribe(utterances, self.decoding, in_chunks=True).results)["wer"]
        return Report("wer", "lower", metrics, len(utterances), predictions=samples(results))

    def evaluate(self, split: Split, *, limit: int | None, judge: Judge | None = None) -> Report:  # noqa: ARG002
        """Error rates on a split or its first `limit` utterances, by voices too, and with the recordings shuffled."""
        utterances = first_utterances(self.data.split(split), limit)
        transcription = self._transcribe(utterances, self.decoding)
        estimates = estimates_by_voices(transcription.results, self.speakers)
        if self.config.decoding.beam > 1:
            unaided = self._transcribe(utterances, Decoding()).results
            best_path = estimates_by_voices(unaided, self.speakers)
            estimates |= {f"{name}_best_path": one for name, one in best_path.items() if name != "wer_raw"}
        if self.streams:
            in_chunks = self._transcribe(utterances, self.decoding, in_chunks=True).results
            estimates["wer_in_chunks"] = estimates_by_voices(in_chunks, self.speakers)["wer"]
        estimates |= transcription.loss_estimate()
        metrics = {name: one.value for name, one in estimates.items()} | {
            "real_time_factor": self._real_time_factor(split),
            "set_aside": len(utterances.set_aside),
        }
        report = recognition_report(transcription.results, metrics, estimates)
        images, audio = self._show_alignments(split, utterances)
        return replace(report, images=images, audio=audio)

    def _show_alignments(self, split: Split, utterances: SpeechSet) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Images of when the first few utterances' words are heard, and the recordings."""
        images, audio, emissions = {}, {}, self.config.model.emissions
        assert emissions != "auto"
        shown = first_utterances(utterances, ALIGNED)
        for index, recorded in enumerate(read_recordings(self.data.corpus, split, shown, self.rate)):
            name, features = f"utterance-{index + 1}", shown.features(index)
            with torch.no_grad():
                encoded = self.encode(pad([features], [[]]))
            log_probs = encoded.frames[0, : int(encoded.lengths[0])].float().log_softmax(-1).cpu()
            ids = self.decoding.ids(log_probs, self.targets)
            title = f"{shown.recordings[index].id}: {shown.texts[index]}"
            images[f"{name}{SUFFIX}"] = ctc_image(features, log_probs, ids, self.targets.decode, emissions=emissions, title=title)
            audio[f"{name}.wav"] = wav_bytes(recorded, self.rate)
        return images, audio

    def hear(self, audio: Samples) -> Encoded:
        """CTC log-probabilities `(1, S, V)` of one recording, `(n,)` samples at the features' rate."""
        features = log_mel(audio, self.config.model.mel)
        batch = pad([features.numpy()], [[]])
        with torch.no_grad():
            logits = self.encode(batch)
        return Encoded(logits.frames.float().log_softmax(-1), logits.lengths)

    @property
    def rate(self) -> int:
        """The sample rate of its input, in Hz."""
        return self.config.model.mel.sample_rate

    def read(self, audio: Samples) -> str:
        """What is said in one recording, `(n,)` samples at `rate`."""
        return self.targets.decode(self.decoding.ids(self.hear(audio).frames[0].cpu(), self.targets)).strip()

    def encode(self, batch: SpeechBatch, *, in_chunks: bool = False) -> Encoded:
        """CTC scores `(B, S, V)` of a batch, heard whole or as a stream is."""
        device = self.model.mean.device
        features, lengths = batch.features.to(device), batch.lengths.to(device)
        if in_chunks:
            features = level_by_chunks(features, lengths, SUBSAMPLING * self.config.model.streaming.chunk)
        return self.model.logits(self.model(features, lengths, in_chunks=in_chunks))

    @property
    def streams(self) -> bool:
        """Whether it has learned to hear in chunks."""
        return self.config.model.streaming.share > 0

    def _transcribe(self, utterances: SpeechSet, decoding: Decoding, *, in_chunks: bool = False) -> TranscriptionResult:
        texts = [""] * len(utterances)
        by_utterance: list[tuple[float, int]] = []
        self.model.eval()
        for indices, batch in evaluation_batches(utterances, EVALUATION_FRAMES):
            with torch.no_grad():
                logits = self.encode(batch, in_chunks=in_chunks)
                nats = ctc_nats(logits.frames, logits.lengths, batch.targets, batch.target_lengths)
            fits = nats.isfinite().cpu()
            by_utterance += zip(nats.cpu()[fits].tolist(), batch.target_lengths[fits].tolist(), strict=True)
            for row, index in enumerate(indices):
                log_probs = logits.frames[row, : logits.lengths[row]].float().log_softmax(-1).cpu()
                texts[index] = self.targets.decode(decoding.ids(log_probs, self.targets)).strip()
        pairs = zip(utterances.recordings, utterances.texts, texts, strict=True)
        return TranscriptionResult(list(starmap(partial(RecognitionResult, compared=self._compared), pairs)), by_utterance)

    @property
    def _compared(self) -> Callable[[str], str]:
        """How texts are normalised before their words are compared."""
        return unicode_text.normalise if self.config.targets.kind == "chars" else normalise_english

    def _real_time_factor(self, split: Split) -> float:
        """Seconds that a second of audio takes from samples to text, one utterance at a time."""
        samples = self.data.corpus.samples(split, 0, self.rate)
        recordings = [recording for recording in islice(samples, TIMED_UTTERANCES) if not isinstance(recording, DataError)]
        began = time.perf_counter()
        for recording in recordings:
            self.read(recording)
        seconds = sum(map(len, recordings)) / self.rate
        return (time.perf_counter() - began) / seconds if recordings else 0.0


STAGE: type[TrainableStage] = Asr


def open_encoder(folder: Path, cache: Path) -> MediaEncoder:
    """The audio encoder of a model folder, as an omni model hears through it."""
    stage = open_model(Asr, folder, device=torch.device("cpu"), cache=cache)
    return AudioFrontend(stage.model, stage.targets)


def _learn_targets(corpus: SpeechCorpus, config: TargetConfig) -> Targets:
    if config.kind == "characters":
        return CharacterTargets()
    texts = (row.text for row in corpus.recordings("train"))
    if config.kind == "chars":
        return FoundCharacters.find(texts)
    return BpeTargets.train((normalise(text) for text in texts if not foreign_characters(text)), config.vocab_size)


def _load_targets(folder: Path, config: TargetConfig) -> Targets:
    """The targets that a model folder holds."""
    if config.kind == "chars":
        return FoundCharacters.load(folder)
    return CharacterTargets() if config.kind == "characters" else BpeTargets.load(folder)


def _inherit_targets(init: Run, config: TargetConfig) -> Targets:
    """The targets that go with the weights of `init`."""
    inherited = read_config(init.model, Asr.name, AsrConfig).targets
    if inherited.kind != config.kind or (inherited.kind == "bpe" and inherited.vocab_size != config.vocab_size):
        raise ConfigError(
            f"the weights of {init.path} spell {inherited.kind}, the config asks for {config.kind}"
            + (f" ({inherited.vocab_size} against {config.vocab_size} pieces)" if inherited.kind == config.kind else ""),
            where="targets",
            fix=f"--set targets.kind={inherited.kind} --set targets.vocab_size={inherited.vocab_size}, or start without --init",
        )
    return _load_targets(init.model, inherited)


def _with_emissions(config: AsrConfig, corpus: SpeechCorpus, targets: Targets, cache: Path, init: Run | None) -> AsrConfig:
    """The config with as many emissions a frame as the training transcripts need, and no fewer than `init` has."""
    mel = config.model.mel
    if init is not None and read_config(init.model, Asr.name, AsrConfig).model.emissions == 2:
        return config.model_copy(update={"model": config.model.model_copy(update={"emissions": 2})})
    utterances = open_set(corpus, "train", mel, targets, cache, speeds=config.data.speeds)
    once, twice = (len(find_infeasible(utterances, emissions, mel)) for emissions in (1, 2))
    many = twice < once and once > SPARE_SHARE * len(utterances)
    if many:
        logger.info("%d utterances are too short for their transcripts at 25 Hz: the CTC head emits at 50 Hz", once)
    model = config.model.model_copy(update={"emissions": 2 if many else 1})
    return config.model_copy(update={"model": model})
