import logging
import math
import shutil
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from omnictl.data.speech.corpus import Samples
from omnictl.data.speech.tinyworld import TinyWorldSpeech
from omnictl.data.speech.transcripts.targets import BpeTargets, CharacterTargets, Targets
from omnictl.data.text.corpus import TextDataConfig
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.errors import CheckpointError, DataError
from omnictl.generate.ctc_decoder import Decoding
from omnictl.generate.ctc_search import greedy
from omnictl.models.audio_encoder import Encoded
from omnictl.models.thinker import Thinker, ThinkerConfig
from omnictl.nn.audio.mel import MelConfig
from omnictl.runs.model_folder import write_description
from omnictl.runs.run import Run
from omnictl.stages.asr import PRESETS, Asr, AsrConfig
from omnictl.stages.pretrain import PretrainConfig
from omnictl.trainer.checkpoint import plain_state_dict, save_tensors
from omnictl.use import transcribe
from omnictl.use.subtitles import Word
from omnictl.use.transcribe import (
    fit_language_model,
    is_silent,
    open_recogniser,
    open_thinker,
    transcribe_file,
    windows,
    words_in,
)

RATE = 16_000
BEST_PATH = Decoding()


def noise(seconds: float, *, tilt: float = 0.0, seed: int = 0) -> Samples:
    """`(n,)` of noise whose power falls with frequency to the power of `tilt`."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(seconds * RATE)))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-tilt / 2)
    spectrum[0] = 0
    audio = np.fft.irfft(spectrum, round(seconds * RATE))
    return (0.1 * audio / audio.std()).astype(np.float32)


def syllables(seconds: float) -> Samples:
    """`(n,)` of noise whose level goes up and down four times a second, as that of speech does."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (noise(seconds) * (0.01 + np.sin(4 * np.pi * time) ** 2)).astype(np.float32)


def config(emissions: int = 1) -> AsrConfig:
    model = PRESETS["debug"].model.model_copy(update={"emissions": emissions})
    return PRESETS["debug"].model_copy(update={"model": model})


def path_of(symbols: Sequence[int], num_symbols: int) -> Tensor:
    """`(S, V)` log-probabilities that are sure of one symbol a frame."""
    return (20.0 * torch.nn.functional.one_hot(torch.tensor(symbols), num_symbols)).float().log_softmax(-1)


class Hearing:
    """Hears the same in every recording: a symbol a frame, then silence to the end."""

    def __init__(self, symbols: Sequence[int], targets: Targets, emissions: int = 1) -> None:
        self.symbols, self.targets, self.config = symbols, targets, config(emissions)
        self.heard: list[Samples] = []

    def hear(self, audio: Samples) -> Encoded:
        self.heard.append(audio)
        emissions = self.config.model.emissions
        assert emissions != "auto"
        num_frames = -(-(1 + len(audio) // 160) // 4) * emissions
        symbols = [*self.symbols, *[0] * (num_frames - len(self.symbols))]
        padded = path_of([*symbols, 5, 5], self.targets.num_symbols)  # two frames of padding that say something
        return Encoded(padded[None], torch.tensor([num_frames]))


def spelled(path: str, emissions: int = 1) -> Hearing:
    """Hears one character a frame; `.` is the blank."""
    targets = CharacterTargets()
    return Hearing([0 if character == "." else targets.encode(character)[0] for character in path], targets, emissions)


def write(path: Path, audio: Samples, rate: int = RATE) -> Path:
    soundfile.write(path, audio, rate)
    return path


@pytest.mark.parametrize(("rate", "seconds"), [(16_000, 65.0), (22_050, 41.3), (44_100, 20.01), (16_000, 20.0), (8_000, 1 / 8000)])
def test_windows_are_the_recording(rate: int, seconds: float) -> None:
    audio = np.random.default_rng(0).standard_normal(round(rate * seconds)).astype(np.float32)
    firsts, pieces = zip(*windows(audio, rate), strict=True)
    assert np.array_equal(np.concatenate(pieces), audio)
    assert list(firsts) == [0, *np.cumsum([len(piece) for piece in pieces])[:-1]]
    assert all(len(piece) <= 20 * rate for piece in pieces)
    assert all(len(piece) >= 10 * rate for piece in pieces[:-1])


def test_what_is_short_enough_is_not_cut() -> None:
    assert len(list(windows(noise(20.0), RATE))) == 1
    assert len(list(windows(noise(20.001), RATE))) == 2


def test_a_cut_is_in_the_middle_of_the_longest_pause() -> None:
    audio = noise(30.0)
    audio[12 * RATE : round(12.08 * RATE)] = 0  # the stop of a consonant
    audio[14 * RATE : round(14.3 * RATE)] *= 0.01
    (first, _), (second, _) = windows(audio, RATE)
    assert first == 0
    assert second / RATE == pytest.approx(14.15, abs=0.011)


def test_a_cut_leaves_no_window_of_more_than_twenty_seconds() -> None:
    audio = noise(40.0)
    audio[5 * RATE : 6 * RATE] = 0  # too early and too late for a cut
    audio[21 * RATE : 22 * RATE] = 0
    firsts = [first / RATE for first, _ in windows(audio, RATE)]
    assert 10 <= firsts[1] <= 20
    assert all(other - one <= 20 for one, other in pairwise([*firsts, 40.0]))


def test_words_and_their_times() -> None:
    recogniser = spelled("...hh..i  .tthe.ree.")
    assert words_in(syllables(2.0), recogniser, BEST_PATH) == [
        Word("hi", pytest.approx(0.12), pytest.approx(0.32)),
        Word("there", pytest.approx(0.44), pytest.approx(0.76)),
    ]


def test_times_with_two_emissions_a_frame() -> None:
    (word,) = words_in(syllables(1.0), spelled("...hh..i", emissions=2), BEST_PATH)
    assert word == Word("hi", pytest.approx(0.06), pytest.approx(0.16))


def test_no_word_ends_after_its_audio() -> None:
    audio = syllables(1.0)  # 26 frames of 40 ms
    (word,) = words_in(audio, spelled("." * 24 + "hi"), BEST_PATH)
    assert word == Word("hi", pytest.approx(0.96), 1.0)


def test_nothing_heard_is_no_words() -> None:
    assert words_in(syllables(1.0), spelled(""), BEST_PATH) == []
    assert words_in(syllables(1.0), spelled(".  . ."), BEST_PATH) == []


def test_words_of_a_bpe() -> None:
    targets = BpeTargets.train(["the cat sat", "the cat ate the rat"] * 3, 275)
    ids = targets.encode("the cat's hat")
    pieces = [targets.decode([symbol]) for symbol in ids]
    assert len(pieces) < len("the cat's hat")  # some are more than a character
    recogniser = Hearing([symbol for one in ids for symbol in (0, one, one)], targets)  # piece n in frames 3 n + 1 and 3 n + 2
    words = words_in(syllables(4.0), recogniser, BEST_PATH)
    assert [word.text for word in words] == ["the", "cat's", "hat"]
    begins = [0, *(number for number, piece in enumerate(pieces) if piece.startswith(" ")), len(pieces)]
    assert len(begins) == 4
    for word, first, after in zip(words, begins, begins[1:], strict=False):
        assert word.start == pytest.approx((3 * first + 1 + (pieces[first] == " ") * 3) * 0.04)
        assert word.stop == pytest.approx(3 * after * 0.04)


def test_a_beam_of_one_is_the_best_path() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        log_probs = torch.randn(40, 29, generator=generator).log_softmax(-1)
        assert Decoding(1).ids(log_probs, CharacterTargets()) == greedy(log_probs[None], torch.tensor([40]))[0]


def test_a_beam_adds_up_paths() -> None:
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # nothing: 0.36, the symbol: 0.64 over three paths
    assert Decoding(1).ids(log_probs, CharacterTargets()) == []
    assert Decoding(2).ids(log_probs, CharacterTargets()) == [1]


def unclear(text: str, heard: str, meant: str, targets: Targets, *, apart: float = 0.1) -> Tensor:
    """`(S, V)` log-probabilities of a text, a character a frame, in which every `heard` is a little likelier than `meant`."""
    log_probs = path_of(targets.encode(text), targets.num_symbols)
    (likelier,), (other,) = targets.encode(heard), targets.encode(meant)
    rows = log_probs.argmax(-1) == likelier
    log_probs[rows, other] = log_probs[rows, likelier] - apart
    return log_probs.log_softmax(-1)


def test_a_language_model_decides_what_the_audio_does_not(tmp_path: Path) -> None:
    (tmp_path / "lm.txt").write_text("\ufeffThe cat.\nA cat!\n\nthe CAT sat\nкот\n", encoding="utf-8")
    targets = CharacterTargets()
    log_probs = unclear("kat", "k", "c", targets)
    scorer = fit_language_model(tmp_path / "lm.txt", targets)
    assert targets.decode(Decoding(8).ids(log_probs, targets)) == "kat"
    assert targets.decode(Decoding(8, scorer, lm_weight=0.5).ids(log_probs, targets)) == "cat"
    assert targets.decode(Decoding(8, scorer, lm_weight=0.0).ids(log_probs, targets)) == "kat"


class Preferring:
    """Rates texts by how often they hold a word, and keeps what it rated."""

    def __init__(self, word: str) -> None:
        self.word, self.rated = word, list[list[str]]()

    def __call__(self, texts: Sequence[str]) -> list[float]:
        self.rated.append(list(texts))
        return [float(text.split().count(self.word)) for text in texts]


def test_a_rater_chooses_among_what_the_search_found() -> None:
    targets, rater = CharacterTargets(), Preferring("cat")
    log_probs = unclear(" kat kit ", "k", "c", targets, apart=0.3)
    assert targets.decode(Decoding(8, rater=rater).ids(log_probs, targets)) == " cat kit "
    ((best, *others),) = rater.rated  # once, all at once, words one space apart
    assert best == "kat kit"
    assert {"cat kit", "kat cit", "cat cit"} <= set(others)
    assert len(others) <= 7
    assert targets.decode(Decoding(8, rater=rater, lm_weight=0.5).ids(log_probs, targets)) == " cat kit "
    assert targets.decode(Decoding(8, rater=rater, lm_weight=0.1).ids(log_probs, targets)) == " kat kit "


def test_a_scorer_inside_the_search_and_a_rater_after_it(tmp_path: Path) -> None:
    (tmp_path / "lm.txt").write_text("the cat\na cat\n" * 3)
    targets = CharacterTargets()
    log_probs = unclear("kat", "k", "c", targets, apart=1.5)
    scorer = fit_language_model(tmp_path / "lm.txt", targets)
    assert targets.decode(Decoding(2, scorer, lm_weight=0.5).ids(log_probs, targets)) == "cat"
    indifferent = Preferring("dog")
    found = Decoding(2, scorer, indifferent, lm_weight=0.5).ids(log_probs, targets)
    assert indifferent.rated == [["cat", "kat"]]  # in the scorer's order
    assert targets.decode(found) == "kat"  # but the rater's word and the audio decide
    assert targets.decode(Decoding(2, scorer, Preferring("cat"), lm_weight=2.0).ids(log_probs, targets)) == "cat"


def test_the_best_path_takes_no_language_model() -> None:
    with pytest.raises(AssertionError, match="no language model"):
        Decoding(1, rater=Preferring("cat"))


def test_a_rater_rates_each_window_of_a_recording(tmp_path: Path) -> None:
    rater = Preferring("hi")
    found = transcribe_file(write(tmp_path / "a.wav", syllables(50.0)), spelled("...hi .you"), Decoding(4, rater=rater))
    assert [texts[0] for texts in rater.rated] == ["hi you"] * (len(found.words) // 2)
    assert len(rater.rated) >= 3


def test_a_language_model_rates_what_the_model_spells(tmp_path: Path) -> None:
    (tmp_path / "lm.txt").write_text("the cat sat\nthe cat ate\n" * 3)
    targets = BpeTargets.train(["the cat sat", "the cat ate the rat"] * 3, 275)
    scorer = fit_language_model(tmp_path / "lm.txt", targets)
    assert scorer.vocab_size == 276
    assert scorer.nats(targets.encode("the cat sat")) < scorer.nats(targets.encode("the rat sat"))


def test_lines_that_cannot_be_spelled_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lm.txt").write_text("кот\nthe cat\n...\n", encoding="utf-8")
    with caplog.at_level(logging.INFO, "omnictl"):
        fit_language_model(tmp_path / "lm.txt", CharacterTargets())
    assert "2 of 3 lines cannot be spelled" in caplog.text


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "cannot read"),
        ("caf\xe9\n".encode("latin1"), "not UTF-8 text: byte 0xe9 at offset 3"),
        (b" \n\n", "0 lines of text"),
        ("кот\n".encode(), "1 lines of text, none of which"),
    ],
)
def test_what_is_no_language_model(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "lm.txt"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=found) as raised:
        fit_language_model(path, CharacterTargets())
    assert raised.value.where == "--lm"
    assert str(path) in raised.value.message


def test_a_file_of_any_rate_and_channels(tmp_path: Path) -> None:
    left = np.repeat(syllables(1.0), 3)[: 2 * 22_050]
    path = write(tmp_path / "a.flac", np.stack([left, np.zeros_like(left)], 1), 22_050)
    recogniser = spelled("...hi")
    found = transcribe_file(path, recogniser, BEST_PATH)
    (audio,) = recogniser.heard
    assert audio.shape == (2 * RATE,)
    assert (found.text, found.seconds) == ("hi", 2.0)
    assert found.real_time_factor > 0


def test_times_count_from_the_beginning_of_the_recording(tmp_path: Path) -> None:
    audio = syllables(50.0)
    recogniser = spelled("...hi .you")
    found = transcribe_file(write(tmp_path / "long.wav", audio), recogniser, BEST_PATH)
    read = soundfile.read(tmp_path / "long.wav", dtype="float32")[0]
    assert np.array_equal(np.concatenate(recogniser.heard), read)
    firsts = [first / RATE for first, _ in windows(read, RATE)]
    assert len(firsts) >= 3
    assert found.text == " ".join(["hi you"] * len(firsts))
    assert [(word.start, word.stop) for word in found.words] == [
        pytest.approx((first + start, first + stop)) for first in firsts for start, stop in ((0.12, 0.20), (0.28, 0.40))
    ]
    assert found.seconds == 50.0


def test_json_has_milliseconds(tmp_path: Path) -> None:
    found = transcribe.Transcript([Word("hi", 0.1200001, 1 / 3)], 1.00006, 0.01)
    assert found.as_json() == {
        "text": "hi",
        "seconds": 1.0,
        "words": [{"text": "hi", "start": 0.12, "stop": 0.333}],
        "real_time_factor": 0.01,
    }


@pytest.mark.parametrize("seconds", [0.2, 3.0, 25.0])
def test_silence_is_not_heard(seconds: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recogniser = spelled("hi")
    with caplog.at_level(logging.INFO, "omnictl"):
        found = transcribe_file(write(tmp_path / "a.wav", np.zeros(round(seconds * RATE), np.float32)), recogniser, BEST_PATH)
    assert (found.text, found.words, recogniser.heard) == ("", [], [])
    assert "silence or steady noise from 0.0 to " in caplog.text


def test_only_the_windows_in_which_something_is_said_are_heard(tmp_path: Path) -> None:
    audio = np.concatenate([syllables(12.0), np.zeros(30 * RATE, np.float32), syllables(12.0)])
    recogniser = spelled("...hi")
    found = transcribe_file(write(tmp_path / "a.wav", audio), recogniser, BEST_PATH)
    assert 2 <= len(found.words) == len(recogniser.heard) < len(list(windows(audio, RATE)))


@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 20.0])
def test_steady_noise_is_silence(tilt: float, seconds: float) -> None:
    assert all(is_silent(noise(seconds, tilt=tilt, seed=seed), MelConfig()) for seed in range(5))


def test_a_tone_is_silence() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    assert is_silent(tone, MelConfig())
    assert is_silent(tone[:RATE] * np.float32(1e-4), MelConfig())


def test_speech_is_not_silence() -> None:
    mel = MelConfig()
    spoken = [audio for audio in islice(TinyWorldSpeech(3, 8, 8).samples("val", 0, RATE), 8) if not isinstance(audio, DataError)]
    assert len(spoken) == 8
    assert not any(is_silent(audio, mel) for audio in spoken)
    assert not any(is_silent(np.float32(0.01) * audio, mel) for audio in spoken)
    for seed, audio in enumerate(spoken):  # as loud a noise
        added = noise(len(audio) / RATE, tilt=1.0, seed=seed) * np.float32(10 * math.sqrt(np.mean(audio**2)))
        assert not is_silent(audio + added, mel)


def test_one_short_word_in_a_long_noise_is_not_silence() -> None:
    audio = noise(20.0)
    audio[9 * RATE : round(9.3 * RATE)] += 3 * syllables(0.3)
    assert not is_silent(audio, MelConfig())


@pytest.fixture
def untrained() -> Asr:
    stage = Asr(config(2), CharacterTargets(), frozenset(), cache=Path("unused"))
    stage.model.eval()
    return stage


@pytest.mark.parametrize("num_samples", [1, 100, 399, 401, 15_999, 16_001])
def test_a_model_hears_audio_of_any_length(untrained: Asr, tmp_path: Path, num_samples: int) -> None:
    path = write(tmp_path / "a.wav", syllables(2.0)[8_000:][:num_samples])
    for decoding in (BEST_PATH, Decoding(4)):
        found = transcribe_file(path, untrained, decoding)
        assert found.seconds == num_samples / RATE
        times = [time for word in found.words for time in (word.start, word.stop)]
        assert times == sorted(times)
        assert all(0 <= time <= found.seconds for time in times)


def test_frames_cover_the_audio(untrained: Asr) -> None:
    for num_samples in (1, 1_000, 16_000, 20_001):
        heard = untrained.hear(syllables(2.0)[:num_samples])
        step = 4 * 160 / RATE / 2
        assert num_samples / RATE <= int(heard.lengths[0]) * step < num_samples / RATE + 4 * 160 / RATE + 0.01


def test_progress_of_a_long_file_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "long.wav", syllables(45.0))
    with caplog.at_level(logging.INFO, "omnictl"):
        transcribe_file(path, spelled("hi"), BEST_PATH)
        assert caplog.text == ""  # soon done
        monkeypatch.setattr(transcribe, "SECONDS_BETWEEN_LINES", 0.0)
        transcribe_file(path, spelled("hi"), BEST_PATH)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) >= 2
    assert all(message.startswith(str(path)) and message.endswith(" of 45 s") for message in messages)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("not audio")
    with pytest.raises(DataError, match="is not a WAV"):
        transcribe_file(tmp_path / "a.wav", spelled("hi"), BEST_PATH)


def test_the_recordings_of_a_run_may_be_gone(untrained: Asr, tmp_path: Path) -> None:
    data, run = tmp_path / "data", Run(tmp_path / "run")
    path = write(tmp_path / "a.wav", syllables(1.0))
    data.mkdir()
    write(data / "b.wav", syllables(1.0))
    (data / "manifest.csv").write_text("audio,text\nb.wav,hi you\n")
    recordings = untrained.config.data.model_copy(update={"source": str(data)})
    stage = Asr(untrained.config.model_copy(update={"data": recordings}), untrained.targets, frozenset(), cache=tmp_path)
    stage.save_description(run.model)
    save_tensors(plain_state_dict(untrained.model), run.model / "model.safetensors")

    shutil.rmtree(data)
    reopened = open_recogniser(run, torch.device("cpu"), tmp_path)
    assert transcribe_file(path, reopened, BEST_PATH).words == transcribe_file(path, untrained, BEST_PATH).words != []
    with pytest.raises(DataError, match="no such"):  # only now are they looked for
        _ = reopened.data.corpus


@pytest.fixture
def thinker(tmp_path: Path) -> Run:
    """A run of `pretrain` with an untrained model, whose text is gone."""
    torch.manual_seed(0)
    config = PretrainConfig(
        model=ThinkerConfig(layers=1, width=16, heads=2, kv_heads=1, hidden=16, context=32, dropout=0.5),
        data=TextDataConfig(source="gone.txt", seq_len=32),
    )
    tokenizer = Tokenizer.train_bpe(["the cat sat"], 264)
    run = Run(tmp_path / "thinker")
    write_description(run.model, "pretrain", config, vocab_size=tokenizer.vocab_size, chat="text")
    tokenizer.save(run.model / "tokenizer.json")
    save_tensors(plain_state_dict(Thinker(config.model, tokenizer.vocab_size)), run.model / "model.safetensors")
    return run


def test_a_thinker_of_a_run_rates_sentences(thinker: Run) -> None:
    rater = open_thinker(thinker, torch.device("cpu"))
    short, long = rater(["the cat", "the cat sat on it"])
    assert long < short < 0
    assert rater(["the cat sat on it"]) == pytest.approx([long])


def test_a_run_without_a_thinker(thinker: Run, untrained: Asr) -> None:
    (thinker.model / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        open_thinker(thinker, torch.device("cpu"))
    untrained.save_description(thinker.model)
    with pytest.raises(CheckpointError, match="expected format 1 of stage `pretrain`"):
        open_thinker(thinker, torch.device("cpu"))
