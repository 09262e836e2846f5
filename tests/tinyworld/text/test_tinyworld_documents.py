import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from math import fsum
from random import Random

import numpy as np
import pytest

from omnictl.config.split import Split
from omnictl.metrics.ngram import NgramModel
from omnictl.tinyworld.language.grammar import END, NotInGrammar, Sampler, ScoredText
from omnictl.tinyworld.language.lexicon import (
    ANIMAL_HOMES,
    ANIMAL_SOUNDS,
    COATS,
    COLOURS,
    DAYS,
    FOODS,
    HOBBIES,
    JOBS,
    LANDMARKS,
    NAMES,
    NUMBERS,
    PETS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    THINGS,
    plural,
    she_or_he,
    with_article,
)
from omnictl.tinyworld.text.documents import document, score, write_document
from omnictl.tinyworld.topics.images import Item, holds

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NUM_DOCUMENTS = 2000
COLOUR_OR_SIZE = "|".join(COLOURS + SIZES)
MEANINGFUL = {
    word.casefold()
    for words in (NAMES, COLOURS, COATS, SIZES, SHAPES, THINGS, NUMBERS, JOBS, LANDMARKS, PETS, HOBBIES, DAYS, ANIMAL_SOUNDS, FOODS)
    for word in words
}

GOLDEN_STORY = (
    "This is Nora. "
    "She has a brown rabbit. "
    "She lives in a flat near the bridge. "
    "Her friend is Mary. "
    "She likes to ski. "
    "She is a young dancer. "
    "They meet on Saturday. "
    "On holidays Mary wants to ski. "
    "So Nora has a friend called Mary."
)
GOLDEN_DIALOGUE = (
    "<|im_start|>user\n"
    "Hello! My name is Tom. My lucky number is seventeen. My favourite colour is red. My free day is Tuesday. "
    "I live near the library.<|im_end|>\n"
    "<|im_start|>assistant\n"
    "Hello, Tom! I am glad to see you.<|im_end|>\n"
    "<|im_start|>user\n"
    "How much is four minus one?<|im_end|>\n"
    "<|im_start|>assistant\n"
    "Three.<|im_end|>\n"
    "<|im_start|>user\n"
    "Where do I live?<|im_end|>\n"
    "<|im_start|>assistant\n"
    "You live near the library.<|im_end|>"
)
GOLDEN_STORY_NATS = 38.42180933353184


@cache
def documents(split: Split) -> tuple[str, ...]:
    return tuple(document(0, split, index) for index in range(NUM_DOCUMENTS))


@cache
def scores(split: Split) -> tuple[ScoredText, ...]:
    return tuple(map(score, documents(split)))


def words_of(text: str, scored: ScoredText) -> list[str]:
    return [text[start:end] for start, end, _ in scored.words]


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_every_document_scores_and_its_words_sum_to_the_whole(split: Split) -> None:
    for text, scored in zip(documents(split), scores(split), strict=True):
        assert fsum([*(word.log_prob for word in scored.words), scored.end_log_prob]) == pytest.approx(-scored.nats)
        assert re.sub(" ", "", text) == "".join(words_of(text, scored))
        assert all(word.log_prob <= 0.0 for word in scored.words)


def test_documents_are_the_same_in_every_process() -> None:
    program = (
        "import hashlib; from omnictl.tinyworld.text.documents import document;"
        "texts = [document(3, s, i) for s in ('train', 'val', 'test') for i in range(40)];"
        "print(hashlib.sha256('\\0'.join(texts).encode()).hexdigest())"
    )
    texts = [document(3, split, index) for split in SPLITS for index in range(40)]
    here = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        assert there.stdout.strip() == here


def test_seed_split_and_index_all_matter() -> None:
    texts = [document(seed, split, index) for seed in (0, 1) for split in SPLITS for index in range(50)]
    assert len(set(texts)) == len(texts)


def test_golden_documents() -> None:
    """A change here is a change of the world: everything measured on it has to be measured again."""
    assert document(0, "train", 0) == GOLDEN_STORY
    assert document(0, "train", 4) == GOLDEN_DIALOGUE
    assert score(GOLDEN_STORY).nats == pytest.approx(GOLDEN_STORY_NATS, rel=1e-12)


@pytest.mark.slow
def test_test_documents_are_new() -> None:
    training = {document(0, "train", index) for index in range(10_000)}
    repeated = sum(text in training for text in documents("test"))
    assert repeated < 0.01 * NUM_DOCUMENTS
    # Typical documents are rarer than one in 10^9, and so there are more of them than that.
    assert np.median([scored.nats for scored in scores("test")]) > np.log(1e9)


def test_size_of_words_and_documents() -> None:
    lengths = [len(scored.words) for scored in scores("train")]
    assert 50 <= np.mean(lengths) <= 90
    assert max(lengths) <= 170
    texts = "\n".join(re.sub(r"<\|im_start\|>\w+|<\|im_end\|>", "", text) for text in documents("train"))
    types = Counter(re.findall("[a-z]+", texts.casefold()))
    assert 300 <= len(types) <= 520
    # Rare words would measure memory, not understanding.
    assert sum(count >= 5 for count in types.values()) >= 0.9 * len(types)


def test_no_choice_has_more_than_forty_options() -> None:
    class Counting(Sampler):
        most = 0

        def pick(self, options: tuple[str, ...], weights: tuple[int, ...] | None = None) -> str:
            self.most = max(self.most, len(options))
            return super().pick(options, weights)

    for seed in range(NUM_DOCUMENTS):
        sampler = Counting(Random(seed))
        write_document(sampler)
        assert sampler.phrases[-1] == END
        assert sampler.most <= 40


@pytest.mark.slow
def test_half_of_the_documents_recall_something_from_two_sentences_before() -> None:
    """Words with a meaning, certain, not guessed by an n-gram model, and last said two sentences ago or more."""
    vocabulary: dict[str, int] = {END: 0}

    def encode(split: Split) -> list[list[int]]:
        pairs = zip(documents(split), scores(split), strict=True)
        return [[vocabulary.setdefault(word, len(vocabulary)) for word in [*words_of(*pair), END]] for pair in pairs]

    train, test = encode("train"), encode("test")
    model = NgramModel.fit(np.concatenate(train), vocab_size=len(vocabulary), end_token=0)
    recalling = 0
    for ids, scored, text in zip(test, scores("test"), documents("test"), strict=True):
        probabilities = model.probabilities(np.array([0, *ids]))
        words = [word.casefold() for word in words_of(text, scored)]
        sentence = np.cumsum([word in {".", "?", "!"} for word in words])
        latest: dict[str, int] = {}
        found = False
        for position, word in enumerate(words):
            far = word in MEANINGFUL and word in latest and sentence[position] - latest[word] >= 2
            found |= far and scored.words[position].log_prob == 0.0 and probabilities[position] < 0.5
            latest[word] = sentence[position]
        recalling += bool(found)
    assert recalling >= 0.5 * NUM_DOCUMENTS


def test_a_wrong_certain_word_is_not_in_the_grammar() -> None:
    changed = 0
    for text, scored in zip(documents("val"), scores("val"), strict=True):
        word = next((word for word in reversed(scored.words) if text[word.start : word.end] in NUMBERS), None)
        if word is None or word.log_prob != 0.0:
            continue
        other = "nine" if text[word.start : word.end] != "nine" else "eight"
        with pytest.raises(NotInGrammar, match=f"at character {word.start} it has '{other}'"):
            score(text[: word.start] + other + text[word.end :])
        changed += 1
    assert changed > 50


def recheck(pattern: str, check: Callable[[re.Match[str]], bool]) -> int:
    """Check every match in the documents; returns how many there were."""
    matches = [match for text in documents("train") for match in re.finditer(pattern, text)]
    for match in matches:
        assert check(match), match[0]
    return len(matches)


def number(word: str) -> int:
    return NUMBERS.index(word.casefold())


def test_sums_are_right() -> None:
    pattern = r"(\w+) (plus|minus) (\w+)(?: is (\w+)\.|\?<\|im_end\|>\n<\|im_start\|>assistant\n(\w+)\.)"

    def right(match: re.Match[str]) -> bool:
        second = number(match[3]) * (1 if match[2] == "plus" else -1)
        return number(match[1]) + second == number(match[4] or match[5])

    assert recheck(pattern, right) > 100


def test_animals_say_and_live_what_the_lexicon_says() -> None:
    reply = r"\?<\|im_end\|>\n<\|im_start\|>assistant\n"
    assert recheck(rf"What does the (\w+) say{reply}(\w+)\.", lambda m: ANIMAL_SOUNDS[m[1]] == m[2].casefold()) > 10
    assert recheck(rf"Where does the (\w+) live{reply}(.+?)\.", lambda m: m[1] in ANIMAL_HOMES[m[2][0].lower() + m[2][1:]]) > 10
    assert {animal for animals in ANIMAL_HOMES.values() for animal in animals} == set(ANIMAL_SOUNDS)
    assert len(set(ANIMAL_SOUNDS.values())) == len(ANIMAL_SOUNDS)


def test_articles_plurals_and_pronouns_are_good_english() -> None:
    assert with_article("orange star") == "an orange star"
    plurals = "|".join({plural(noun) for noun in (*FOODS, *ANIMAL_SOUNDS, *SHAPES)} - {"sheep"})
    for text in documents("train"):
        assert not re.search(r"\b[Aa] [aeiou]", text), text
        assert not re.search(r"\b[Aa]n [^aeiou]", text), text
        assert not re.search(rf"\b[Oo]ne (({COLOUR_OR_SIZE}) )*({plurals})\b", text), text
    assert recheck(r"(?:Meet|This is) (\w+)\. (\w+)", lambda m: m[2].casefold() == she_or_he(m[1])) > 100
    assert recheck(r"feeds (his|her) (\w+)", lambda m: m[2] in COATS) > 50


def test_relations_follow_rows_and_columns() -> None:
    def at(place: str) -> Item:
        return Item("big", "red", "star", place)

    assert holds("to the left of", at("on the left"), at("at the top"))
    assert not holds("to the left of", at("at the top"), at("in the middle"))
    assert holds("below", at("at the bottom left"), at("on the right"))
    for relation, opposite in (("above", "below"), ("to the left of", "to the right of")):
        for first in PLACES:
            for second in PLACES:
                assert holds(relation, at(first), at(second)) == holds(opposite, at(second), at(first))
    assert len(set(RELATIONS.values())) == 4
