"""Words that stand for images and recordings."""

from collections import Counter

import numpy as np
import pytest
import torch

from omnictl.data.dialogues.chat_template import Media
from omnictl.data.dialogues.corpus import DialogueDataConfig
from omnictl.data.dialogues.imitated_media import NOISE, WordFeatures, WordSource, imitate
from omnictl.data.dialogues.tinyworld import TinyWorldDialogues
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.tinyworld.images.scenes import scene
from omnictl.tinyworld.language.lexicon import NUMBERS, PLACES

WIDTH = 16
WORLD = TinyWorldDialogues.of(0, DialogueDataConfig(counts={"spoken": 3, "spoken_image": 4, "transcribe": 5}, num_pictures=50))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bpe(["a red circle at the top left and a blue star in the middle "] * 20, 300)


def test_an_image_shows_all_facts_of_its_shapes_and_some_ground() -> None:
    grounds = 0
    for number in range(50):
        words = WORLD.words("train", Media("image", number))
        items = [figure.item for figure in scene(0, "train", number).figures]
        counts = Counter(item.shape for item in items)
        facts = {(item.shape, item.colour, item.size, item.place, NUMBERS[counts[item.shape]]) for item in items}
        assert {each for each in words if each} == facts
        places = [list(PLACES).index(each[3]) for each in words if each]
        assert places == sorted(places)
        grounds += words.count(())
    assert grounds > 0
    assert WORLD.words("train", Media("image", 7)) == WORLD.words("train", Media("image", 7))


def test_a_recording_says_its_words_in_order() -> None:
    said = WORLD.utterances("train")
    assert len(said) == 12
    for number, utterance in enumerate(said):
        words = [each[0] for each in WORLD.words("train", Media("audio", number)) if each]
        spoken = "".join(character for character in utterance.text.lower() if character.isalpha() or character == " ").split()
        assert [word for place, word in enumerate(words) if not place or words[place - 1] != word] == [
            word for place, word in enumerate(spoken) if not place or spoken[place - 1] != word
        ]


def test_a_feature_is_the_sum_of_its_words_and_noise(tokenizer: Tokenizer) -> None:
    features = [("red", "circle"), (), ("top left",)]
    source = WordSource(lambda _: features, tokenizer, WIDTH)
    table = torch.randn(tokenizer.vocab_size, WIDTH, generator=torch.Generator().manual_seed(0))
    value = source.value(5)
    assert source.count(5) == source.num_features(value) == 3
    mixed = torch.zeros(3, WIDTH)
    for row, words in enumerate(features):
        for word in words:
            mixed[row] += torch.stack([table[token] for token in tokenizer.encode(f" {word}", markup=False)]).mean(0)
    noise = torch.from_numpy(value.noise)
    unit = mixed / mixed.square().mean(-1, keepdim=True).sqrt()
    expected = torch.stack([unit[0] + NOISE * noise[0], noise[1], unit[2] + NOISE * noise[2]])
    expected = expected / expected.square().mean(-1, keepdim=True).sqrt()
    got = imitate([value, value], table.requires_grad_())
    assert not got.requires_grad
    torch.testing.assert_close(got, torch.cat([expected, expected]), atol=1e-5, rtol=1e-5)


def test_a_recording_without_words_is_noise(tokenizer: Tokenizer) -> None:
    value = WordSource(lambda _: [()], tokenizer, WIDTH).value(0)
    assert isinstance(value, WordFeatures)
    assert len(value.tokens) == 0
    got = imitate([value], torch.randn(tokenizer.vocab_size, WIDTH))
    assert np.isfinite(got.numpy()).all()
    assert got.square().mean().item() == pytest.approx(1, rel=1e-4)
