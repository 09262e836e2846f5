import pytest

from omnictl.metrics.answers import is_same, is_true, plain, statements


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Yes.", "yes"),
        ("  The\tblue   star! ", "the blue star"),
        ("a 'quoted' word, it's", "a 'quoted' word it's"),
        ("ＡＢＣ", "abc"),
        ("?!", ""),
        ("snake_case – “quoted”", "snake case quoted"),
        ("लड़का।", "लड़का"),
        ("from -3 to 3-4", "from -3 to 3-4"),
        ("3 - 4", "3 4"),
        ("", ""),
    ],
)
def test_words_without_marks(text: str, words: str) -> None:
    assert plain(text) == words


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("red", "Red.", True),
        ("To the left of and above", "to the left of, and above.", True),
        ("Dark red.", "Red.", False),
        ("", "Red.", False),
        ("one two", "two one", False),
        ("लड़का", "लड़की", False),
        ("-3", "3", False),
        ("-3.", "-3", True),
        ("👍", "👎", False),
        ("", "👍", False),
        ("a < b", "a > b", False),
        ("50 %", "50", True),
    ],
)
def test_the_same_words(answer: str, reference: str, same: bool) -> None:
    assert is_same(answer, reference) is same


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("A red ring and a blue star.", {"a red ring", "a blue star"}),
        ("A red ring, a blue star and a moon.", {"a red ring", "a blue star", "a moon"}),
        ("Three red rings and one star.", {"three red rings", "one star"}),
        ("The star is big, blue and on the right.", {"the star big", "the star blue", "the star on the right"}),
        (
            "The rings are small, red and three. The star is big.",
            {"the rings small", "the rings red", "the rings three", "the star big"},
        ),
        ("", set()),
        (" . ", set()),
    ],
)
def test_facts_of_a_description(text: str, facts: set[str]) -> None:
    assert statements(text) == facts


ALL = "The star is big, blue and on the right. The ring is small, red and at the top."


@pytest.mark.parametrize(
    ("answer", "true"),
    [
        (ALL, True),
        ("The ring is red. the STAR is on the right", True),
        ("The ring is blue.", False),  # the star is
        ("The star is big, blue and on the left.", False),
        ("The star is big. The moon is big.", False),
        ("", False),
        (".", False),
    ],
)
def test_nothing_but_what_is_true(answer: str, true: bool) -> None:
    assert is_true(answer, ALL) is true
