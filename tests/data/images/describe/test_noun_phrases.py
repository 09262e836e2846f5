import pytest

from omnictl.data.images.describe.noun_phrases import indefinite_article, is_code, is_plural, make_readable, noun_phrases


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["golden_retriever", "tabby-cat"], ["golden retriever", "tabby cat"]),
        (["t-shirt", "x-ray", "ak-47"], ["t-shirt", "x-ray", "ak-47"]),
        (["three-toed sloth", "all-terrain_vehicle"], ["three-toed sloth", "all-terrain vehicle"]),
        (["AnnualCrop", "SeaLake"], ["annual crop", "sea lake"]),
        (["001.Black_footed_Albatross", "002.Laysan_Albatross"], ["black footed albatross", "laysan albatross"]),
        (["Dog", "Cat"], ["dog", "cat"]),
        (["DOG", "CAT"], ["dog", "cat"]),
        (["SUV", "Sedan"], ["SUV", "sedan"]),
        (["Siberian husky", "golden retriever"], ["Siberian husky", "golden retriever"]),
        (["0", "7"], ["0", "7"]),
        (["12 roses", "rose"], ["12 roses", "rose"]),
        (["  two   words "], ["two words"]),
        (["_"], ["_"]),
    ],
)
def test_labels_become_words(labels: list[str], words: list[str]) -> None:
    assert make_readable(labels) == words


@pytest.mark.parametrize(
    ("label", "phrase", "this_is", "is_this"),
    [
        ("golden_retriever", "a golden retriever", "This is a golden retriever", "Is this a golden retriever"),
        ("aeroplane", "an aeroplane", "This is an aeroplane", "Is this an aeroplane"),
        ("french_fries", "french fries", "These are french fries", "Are these french fries"),
        ("fried_rice", "fried rice", "This is fried rice", "Is this fried rice"),
        ("bus", "a bus", "This is a bus", "Is this a bus"),
    ],
)
def test_sentences_agree_with_their_noun(label: str, phrase: str, this_is: str, is_this: str) -> None:
    noun = noun_phrases([label], {})[label]
    assert (noun.phrase, noun.this_is, noun.is_this) == (phrase, this_is, is_this)


def test_names_are_taken_before_the_rules_and_bring_their_article_if_they_want() -> None:
    phrases = noun_phrases(["n1", "n2", "plain_thing"], {"n1": "tench", "n2": "the moon"})
    assert [phrases[label].phrase for label in ("n1", "n2", "plain_thing")] == ["a tench", "the moon", "a plain thing"]


@pytest.mark.parametrize(
    ("words", "article"),
    [
        ("hour", "an"),
        ("unicorn", "a"),
        ("SUV", "an"),
        ("USB stick", "a"),
        ("8", "an"),
        ("18", "an"),
        ("180", "a"),
        ("7", "a"),
        ("élan", "an"),
    ],
)
def test_articles_follow_the_sound(words: str, article: str) -> None:
    assert indefinite_article(words) == article


def test_what_ends_in_s_is_not_always_plural() -> None:
    plural = ["flags", "mice", "people", "trousers", "pancakes", "pizzas", "tacos", "cherries"]
    single = ["glass", "bus", "cactus", "lens", "iris", "species", "grass", "compass", "canvas", "albatross", "8s"]
    assert [word for word in plural + single if is_plural(word)] == plural


def test_codes_of_catalogues_are_no_words() -> None:
    assert [label for label in ("n01440764", "00017", "7", "a380", "dog") if is_code(label)] == ["n01440764", "00017"]
