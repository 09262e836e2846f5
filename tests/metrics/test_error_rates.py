import math
import subprocess
import sys

import pytest

from omnictl.metrics.error_rates import (
    ErrorCounts,
    alignment_lines,
    character_errors,
    normalise_english,
    shuffled_floor,
    word_errors,
)

SENTENCES = ["the cat sat", "a dog", "", "the cat sat", "two red balls on the table"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        (["the cat sat"], ["the cat sat"], ErrorCounts(0, 0, 0, 3)),
        (["the cat sat"], ["the bat"], ErrorCounts(1, 1, 0, 3)),
        (["cat"], ["the cat sat"], ErrorCounts(0, 0, 2, 1)),
        (["the cat sat"], [""], ErrorCounts(0, 3, 0, 3)),
        ([""], ["the cat"], ErrorCounts(0, 0, 2, 0)),
        (["a b", "", "c"], ["a", "x", "c"], ErrorCounts(0, 1, 1, 3)),
        ([" a \t b\n"], ["a  b"], ErrorCounts(0, 0, 0, 2)),
        ([""], [""], ErrorCounts(0, 0, 0, 0)),
        ([], [], ErrorCounts(0, 0, 0, 0)),
    ],
)
def test_words_are_counted(reference: list[str], hypothesis: list[str], expected: ErrorCounts) -> None:
    assert word_errors(reference, hypothesis) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        (["cat"], ["cart"], ErrorCounts(0, 0, 1, 3)),
        (["a cat"], ["acat"], ErrorCounts(0, 1, 0, 5)),
        (["a  cat "], ["a\tcat"], ErrorCounts(0, 0, 0, 5)),
        (["cat", ""], ["", "ab"], ErrorCounts(0, 3, 2, 3)),
    ],
)
def test_characters_are_counted(reference: list[str], hypothesis: list[str], expected: ErrorCounts) -> None:
    assert character_errors(reference, hypothesis) == expected


def test_the_rate_of_a_corpus_weighs_utterances_by_their_length() -> None:
    assert word_errors(["a b c d e f g h i", "a"], ["a b c d e f g h i", "x"]).rate == pytest.approx(0.1)


def test_the_rate_can_exceed_one_and_is_defined_without_words() -> None:
    assert word_errors(["a"], ["x y z"]).rate == 3
    assert word_errors([""], [""]).rate == 0
    assert word_errors([""], ["a"]).rate == math.inf


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="lengths must match"):
        word_errors(["a", "b"], ["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The COLOUR, of Mr. Grey's twenty-two cats!", "the color of mister gray is 22 cats"),
        ("I can't see it. Uh, one dog!", "i can not see it one dog"),
        ("two red balls", "2 red balls"),
        ("  ", ""),
        ("[laughs]", ""),
    ],
)
def test_english_is_normalised(text: str, expected: str) -> None:
    assert normalise_english(text) == expected


def test_the_normaliser_is_loaded_late_and_without_a_warning() -> None:
    script = (
        "import sys\n"
        "sys.pycache_prefix = sys.argv[1]\n"  # nothing is compiled yet
        "sys.dont_write_bytecode = True\n"
        "from omnictl.metrics.error_rates import normalise_english\n"
        "assert not {'whisper_normalizer', 'torch'} & set(sys.modules)\n"
        "assert normalise_english('Hello!') == 'hello'\n"
    )
    child = subprocess.run([sys.executable, "-W", "error", "-c", script, "nowhere"], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stderr) == (0, "")


def test_everyone_is_given_the_audio_of_someone_else() -> None:
    references = [f"word{i}" for i in range(50)]
    floor = shuffled_floor(references, seed=0)
    assert sorted(floor.permutation) == list(range(50))
    assert all(i != given for i, given in enumerate(floor.permutation))
    assert floor.rate == 1
    assert floor == shuffled_floor(references, seed=0)
    assert floor.permutation != shuffled_floor(references, seed=1).permutation


def test_the_floor_is_the_rate_of_a_perfect_recogniser() -> None:
    floor = shuffled_floor(SENTENCES, seed=3)
    heard = [SENTENCES[i] for i in floor.permutation]
    assert floor.rate == word_errors(SENTENCES, heard).rate > 0


@pytest.mark.parametrize(("references", "expected"), [([], ([], 0.0)), (["a b"], ([0], 0.0)), (["a", "b"], ([1, 0], 1.0))])
def test_few_utterances(references: list[str], expected: tuple[list[int], float]) -> None:
    assert shuffled_floor(references, seed=0) == expected


def test_alignments_can_be_read() -> None:
    shown = alignment_lines("the cat sat on the mat", "the bat  sat the mat too")
    assert shown.splitlines() == [
        "REF: the cat sat on the mat ***",
        "HYP: the bat sat ** the mat too",
        "           S      D           I",
    ]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "lines"),
    [
        ("", "", ["REF:", "HYP:", ""]),
        ("a", "", ["REF: a", "HYP: *", "     D"]),
        ("a", "a", ["REF: a", "HYP: a", ""]),
    ],
)
def test_alignments_of_little(reference: str, hypothesis: str, lines: list[str]) -> None:
    assert alignment_lines(reference, hypothesis).split("\n") == lines
