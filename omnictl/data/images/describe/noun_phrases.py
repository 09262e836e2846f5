"""Labels as English: `golden_retriever` is "a golden retriever", `french_fries` "french fries", `001.Black_Tern` "a black tern".

Rules of thumb, each meant for how class folders and label columns are written; `names` overrule them where they are wrong.
Articles and plurals are inflect's, but for what it takes to be a plural (bus, lens) or reads as a word (SUV, 8).
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import inflect

ARTICLES = ("a", "an", "the", "some")

_NUMBERED = re.compile(r"\d+[._\- ]\s*(?=.*[^\W\d])")
_HUMP = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")
_HYPHEN = re.compile(r"(?<=[^\W\d]{2})-(?=[^\W\d]{2})")  # not in t-shirt, x-ray, ak-47
_TITLE = re.compile(r"\b[^\W\d_][^\W\d_]*\b")
_AN_NUMBER = re.compile(r"8|1[18](?!\d)")
_SPELLED = re.compile(r"[A-Z]{2,3}\b")
_AN_LETTERS = frozenset("AEFHILMNORSX")
_CODE = re.compile(r"[a-z]?\d{5,}")

_NOT_PLURAL_ENDS = ("ss", "us", "is", "news", "series", "species", "lens", "gas", "canvas", "atlas", "asparagus", "chaos", "cosmos")
_PAIRS = (
    "binoculars", "clothes", "goggles", "headphones", "jeans", "leggings", "pants", "pliers", "pyjamas", "scissors", "shorts",
    "sunglasses", "tights", "tongs", "trousers", "tweezers",
)  # fmt: skip
_MASS = (
    "asparagus", "bacon", "beef", "bread", "broccoli", "butter", "cheese", "chocolate", "clothing", "coffee", "couscous",
    "equipment", "fire", "flour", "fog", "food", "fruit", "furniture", "grass", "guacamole", "hair", "honey", "hummus", "ice",
    "jewellery", "jewelry", "lava", "luggage", "meat", "milk", "money", "mud", "music", "paper", "pasta", "pork", "poultry",
    "rain", "rice", "sand", "sashimi", "seafood", "smoke", "snow", "spaghetti", "steam", "sugar", "sushi", "tea", "traffic",
    "water", "weather", "wheat", "wine", "wood",
)  # fmt: skip


class NounPhrase(NamedTuple):
    """What a label is called, and how a sentence treats it."""

    words: str
    """Without an article: `golden retriever`."""
    number: Literal["one", "many", "mass", "given"]
    """A thing, several, or stuff; `given` if it comes with its own article."""

    @property
    def phrase(self) -> str:
        """As it stands in a sentence: `a golden retriever`, `french fries`."""
        return f"{indefinite_article(self.words)} {self.words}" if self.number == "one" else self.words

    @property
    def this_is(self) -> str:
        """`This is a cat`, `These are french fries`."""
        return f"{'These are' if self.number == 'many' else 'This is'} {self.phrase}"

    @property
    def is_this(self) -> str:
        """`Is this a cat`, `Are these french fries`."""
        return f"{'Are these' if self.number == 'many' else 'Is this'} {self.phrase}"


def noun_phrases(labels: Collection[str], names: Mapping[str, str]) -> dict[str, NounPhrase]:
    """All labels of an attribute as they are called in sentences.

    Args:
        labels: as the corpus has them. Capitals and numbers in front mean something only if some labels are without.
        names: what some of them are called instead.
    """
    readable = dict(zip(labels, make_readable(list(labels)), strict=True)) | {
        label: names[label] for label in labels if label in names
    }
    return {label: _noun_phrase(words) for label, words in readable.items()}


def _noun_phrase(words: str) -> NounPhrase:
    first, *others = words.split(" ")
    last = words.rpartition(" ")[2].casefold()
    if others and first.casefold() in ARTICLES:
        return NounPhrase(words, "given")
    return NounPhrase(words, "many" if is_plural(last) else "mass" if last in _MASS else "one")


def make_readable(labels: list[str]) -> list[str]:
    """Labels of one attribute as words: without underscores, numbers in front, or capitals that all of them have."""
    texts = [" ".join(label.split()) for label in labels]
    if texts and all(_NUMBERED.match(text) for text in texts):
        texts = [_NUMBERED.sub("", text, count=1) for text in texts]
    texts = [_split_words(text) for text in texts]
    if len(texts) > 1 and not any(text[:1].islower() for text in texts):
        shouted = all(text.isupper() for text in texts if not text.isnumeric())
        texts = [text.lower() if shouted else _TITLE.sub(_lower_title, text) for text in texts]
    return texts


def _split_words(text: str) -> str:
    if not any(mark in text for mark in " _"):
        text = _HUMP.sub(" ", _HYPHEN.sub(" ", text))
    return " ".join(text.replace("_", " ").split()) or text


def _lower_title(word: re.Match[str]) -> str:
    return word[0].lower() if word[0][1:].islower() or len(word[0]) == 1 else word[0]


def is_plural(word: str) -> bool:
    """Whether a noun stands for several; of doubtful ones not."""
    if word in _PAIRS:
        return True
    if word.endswith(_NOT_PLURAL_ENDS):
        return False
    singular = _engine().singular_noun(word) if word.isalpha() else False
    return bool(singular) and singular != word


def singular(word: str) -> str:
    """`wheels` to `wheel`; a word that is not plural stays."""
    return str(_engine().singular_noun(word) or word) if is_plural(word) else word


def number_words(number: int) -> str:
    """`four`."""
    return str(_engine().number_to_words(str(number)))


@cache
def indefinite_article(words: str) -> str:
    """`a` or `an`, by how the first word sounds."""
    plain = "".join(character for character in unicodedata.normalize("NFKD", words) if not unicodedata.combining(character))
    if plain[:1].isdecimal():
        return "an" if _AN_NUMBER.match(plain) else "a"
    if _SPELLED.match(plain):
        return "an" if plain[0] in _AN_LETTERS else "a"
    return str(_engine().a(plain)).partition(" ")[0] if plain[:1].isalpha() else "a"


def is_code(label: str) -> bool:
    """Whether a label is a number of a catalogue, such as `n01440764`, that nobody would say."""
    return _CODE.fullmatch(label) is not None


def content_words(phrases: Iterable[str]) -> frozenset[str]:
    """The different words of some phrases, in the singular and without articles, to be compared."""
    words = (word for phrase in phrases for word in re.findall(r"\w+", phrase.casefold()))
    return frozenset(singular(word) for word in words if word not in ARTICLES)


@cache
def _engine() -> "inflect.engine":
    import inflect  # noqa: PLC0415  takes a second

    return inflect.engine()
