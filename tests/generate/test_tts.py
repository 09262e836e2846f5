"""Saying a text: the same however it arrives, and as the Talker would have it all at once."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from omnictl.data.speech.transcripts.targets import ReadAloud
from omnictl.generate.griffin_lim import GriffinLim, Neural
from omnictl.generate.tts import LONGEST_BUFFER, CodeSampling, Voice, arriving_sentences, choose_codes, code_frames, say
from omnictl.models.codec import Codec, CodecConfig
from omnictl.models.talker import Interface, Talker, TalkerConfig, round_durations
from omnictl.models.vocoder import NeuralVocoder, VocoderConfig
from omnictl.nn.audio.delay_pattern import delay, one_later, undelay
from omnictl.nn.audio.length_regulator import spread_text
from omnictl.nn.rvq import QuantiserConfig

TEXT = "Hello there. How are 3 cats, Nora? A long line without its end\nand a last one"
LIKELIEST = CodeSampling(temperature=0)


@pytest.fixture
def voice(randomise: Callable[[nn.Module], None]) -> Voice:
    torch.manual_seed(0)
    codec = Codec(CodecConfig(width=16, layers=1, fine_layers=1, quantiser=QuantiserConfig(books=3, codes=8, width=4)))
    interface = Interface(ReadAloud.num_symbols, books=3, codes=8, subframes=2, speakers=0)
    talker = Talker(TalkerConfig(layers=1, width=16, heads=2, hidden=16, text_layers=1), interface)
    randomise(talker)
    return Voice(talker.eval(), codec.eval(), GriffinLim(codec.config.mel), longest=40)


def audio(voice: Voice, pieces: Sequence[str], *, seed: int = 0, sampling: CodeSampling | None = None) -> NDArray[np.float32]:
    voice = replace(voice, sampling=sampling or CodeSampling())
    return np.concatenate(list(say(voice, pieces, torch.Generator().manual_seed(seed))))


def cuts(text: str) -> Iterator[list[str]]:
    yield list(text)
    for size in (2, 7, 30):
        yield [text[start : start + size] for start in range(0, len(text), size)]
    yield ["", text, ""]


def test_sentences_are_the_same_however_they_arrive() -> None:
    whole = list(arriving_sentences([TEXT]))
    assert [sentence.strip() for sentence in whole] == [
        "Hello there.", "How are 3 cats, Nora?", "A long line without its end", "and a last one",
    ]  # fmt: skip
    for pieces in cuts(TEXT):
        assert list(arriving_sentences(pieces)) == whole


def test_a_sentence_is_said_as_soon_as_it_is_whole() -> None:
    arrived: list[str] = []

    def pieces() -> Iterator[str]:
        for character in "One. Two. ":
            arrived.append(character)
            yield character

    assert next(arriving_sentences(pieces())) == "One."
    assert "".join(arrived) == "One. "


def test_what_never_ends_is_said_all_the_same() -> None:
    lengths = [len(sentence) for sentence in arriving_sentences(["word " * 1_000])]
    assert max(lengths) <= 2 * LONGEST_BUFFER
    assert sum(lengths) == 5_000
    assert max(len(sentence) for sentence in arriving_sentences(["x" * 9_000])) <= 2 * LONGEST_BUFFER


@pytest.mark.slow
def test_audio_is_the_same_however_the_text_arrives(voice: Voice) -> None:
    whole = audio(voice, [TEXT])
    assert len(whole) > 0
    for pieces in cuts(TEXT):
        assert np.array_equal(audio(voice, pieces), whole)


def test_nothing_is_said_of_nothing(voice: Voice) -> None:
    assert list(say(voice, ["", " \n", "🙂"], torch.Generator())) == []


@torch.no_grad()
def test_codes_step_by_step_are_those_all_at_once(voice: Voice) -> None:
    symbols = ReadAloud().encode("hello there.")
    found = torch.stack(list(code_frames(voice.talker, symbols, LIKELIEST, torch.Generator())), -1)  # (K, S)
    talker = voice.talker
    states = talker.read(torch.tensor([symbols]), torch.tensor([len(symbols)]))
    times = round_durations(talker.log_durations(states)[0]).numpy()
    assert found.shape == (3, -(-int(times.sum()) // 2))
    text = F.pad(talker.frames(states, spread_text([times], 2)), (0, 0, 0, 2))
    scores = talker.scores(text, one_later(delay(found[None], 8), 8))
    assert torch.equal(undelay(scores.argmax(-1).mT)[0], found)


def test_speed_shortens(voice: Voice) -> None:
    symbols = ReadAloud().encode("hello there, hello there.")
    nn.init.constant_(voice.talker.duration[-1].bias, 2.0)
    slow, fast = (len(list(code_frames(voice.talker, symbols, LIKELIEST, torch.Generator(), speed=speed))) for speed in (1.0, 2.0))
    assert 0.4 < fast / slow < 0.65


@pytest.mark.slow
def test_the_seed_decides_what_is_drawn(voice: Voice) -> None:
    assert np.array_equal(audio(voice, [TEXT], seed=1), audio(voice, [TEXT], seed=1))
    assert not np.array_equal(audio(voice, [TEXT], seed=1), audio(voice, [TEXT], seed=2))
    drawn = [audio(voice, [TEXT], seed=seed, sampling=LIKELIEST) for seed in (1, 2)]
    assert np.array_equal(*drawn)


def test_codes_are_drawn_from_the_likeliest_k() -> None:
    scores = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    drawn = [choose_codes(scores, CodeSampling(temperature=5.0, top_k=3), generator) for _ in range(200)]
    for book in range(2):
        assert {int(codes[book]) for codes in drawn} == set(scores[book].topk(3).indices.tolist())
    assert torch.equal(choose_codes(scores, LIKELIEST, generator), scores.argmax(-1))


@pytest.mark.parametrize("top_k", [0, 2])
def test_the_coldest_codes_are_the_likeliest(top_k: int) -> None:
    scores = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    codes = choose_codes(scores, CodeSampling(temperature=1e-40, top_k=top_k), torch.Generator())
    assert torch.equal(codes, scores.argmax(-1))


def test_audio_comes_before_the_text_has_ended(voice: Voice) -> None:
    arrived: list[str] = []

    def pieces() -> Iterator[str]:
        for word in [*["hello there again and again. "] * 4]:
            arrived.append(word)
            yield word

    made = say(voice, pieces(), torch.Generator())
    assert len(next(made)) > 0
    assert len(arrived) < 4
    assert all(len(samples) > 0 for samples in made)


def held_bytes() -> int:
    """Of all tensors that there are."""
    kinds = (Tensor, nn.Parameter)  # not fake ones, which other tests may have left
    storages = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) in kinds]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.slow
@pytest.mark.parametrize("vocoder", ["griffin-lim", "istft"])
def test_a_long_text_takes_no_more_memory_than_a_short_one(voice: Voice, vocoder: Literal["griffin-lim", "istft"]) -> None:
    if vocoder == "istft":
        network = NeuralVocoder(VocoderConfig(mel=voice.codec.config.mel, width=16, hidden=16, layers=1)).eval()
        voice = replace(voice, vocoder=Neural(network))

    def most(sentences: int) -> int:
        chunks = enumerate(say(replace(voice, sampling=LIKELIEST), ["Hello there, you two. " * sentences], torch.Generator()))
        return max(held_bytes() for number, _ in chunks if number % 8 == 0)

    most(1)  # what is made once is there
    assert most(6) < 1.01 * most(2)
