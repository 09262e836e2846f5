"""TinyWorld's documents: stories, descriptions and dialogues, drawn at random access, each with its exact probability.

A document opens with words that name its topic. A prose document goes on with remarks about it, a dialogue with questions; each
has two to four, no opening twice. The end, too, is a choice with a known probability.
"""

from functools import partial
from hashlib import blake2b
from random import Random

from omnictl.config.split import Split
from omnictl.tinyworld.language import grammar
from omnictl.tinyworld.language.grammar import END, ScoredText, Writer
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.topics.animals import tell_visit
from omnictl.tinyworld.topics.chat import GREETINGS, tell_chat
from omnictl.tinyworld.topics.groups import tell_groups
from omnictl.tinyworld.topics.images import tell_image, tell_numbered_image
from omnictl.tinyworld.topics.news import tell_news
from omnictl.tinyworld.topics.numbers import tell_shopping, tell_sums
from omnictl.tinyworld.topics.people import tell_people
from omnictl.tinyworld.topics.things import tell_things
from omnictl.tinyworld.topics.topic import Teller

_TOPICS: dict[str, Teller] = {
    "one": tell_things,
    "on a": tell_things,
    "meet": tell_people,
    "this is": tell_people,
    "today is": tell_shopping,
    "here are some sums.": tell_sums,
    "last": tell_visit,
    "this picture by": tell_numbered_image,
    "there is": tell_image,
    "there are": tell_groups,
}
_PROSE_TOPICS: dict[str, Teller] = _TOPICS | {"here is the news.": tell_news}
_DIALOGUE_TOPICS: dict[str, Teller] = _TOPICS | {greeting: partial(tell_chat, greeting) for greeting in GREETINGS}
_SPOKEN_TOPICS = ("today is", "here are some sums.", "last", "this picture by", "there is", "there are")
_PROSE_OPENINGS = (*_PROSE_TOPICS, USER)
_PROSE_WEIGHTS = (2, 2, 4, 4, 2, 1, 4, 2, 2, 1, 30, 24)  # two in five documents are news, three in ten are dialogues
_DIALOGUE_WEIGHTS = (1, 1, 2, 2, 2, 1, 3, 3, 3, 2, *(4 for _ in GREETINGS))
_FEWEST, _MOST = 2, 4  # remarks or questions in a document


def document(seed: int, split: Split, index: int) -> str:
    """One document of the world: a pure function of its arguments, the same on every machine and Python version."""
    key = blake2b(f"{seed}/{split}/{index}".encode(), digest_size=16).digest()
    return grammar.sample(write_document, Random(int.from_bytes(key, "big")))


def score(text: str) -> ScoredText:
    """The exact log-probabilities, in nats, of a document and of each of its words.

    Raises:
        NotInGrammar: if no seed can produce `text`.
    """
    return grammar.score(write_document, text)


def write_document(w: Writer) -> None:
    """The grammar of TinyWorld."""
    opening = w.pick(_PROSE_OPENINGS, _PROSE_WEIGHTS)
    if opening == USER:
        _write_dialogue(w)
    else:
        _write_prose(w, _PROSE_TOPICS[opening])


def write_spoken(w: Writer) -> None:
    """The grammar of what is said aloud: of images, animals, numbers and foods, told or asked about."""
    opening = w.pick((*_SPOKEN_TOPICS, USER))
    if opening == USER:
        _converse(w, _TOPICS[w.pick(_SPOKEN_TOPICS)])
    else:
        _write_prose(w, _TOPICS[opening])


def write_talk(w: Writer) -> None:
    """The grammar of the dialogues among the documents."""
    w.say(USER)
    _write_dialogue(w)


def _write_prose(w: Writer, tell: Teller) -> None:
    topic = tell(w)
    used: set[str] = set()
    for number in range(_MOST):
        remarks = {opening: remark for opening, remark in topic.remarks().items() if opening not in used}
        opening = w.pick(tuple(remarks) + ((END,) if number >= _FEWEST else ()))
        if opening == END:
            return
        remarks[opening](w)
        used.add(opening)
    w.say(END)


def _write_dialogue(w: Writer) -> None:
    _converse(w, _DIALOGUE_TOPICS[w.pick(tuple(_DIALOGUE_TOPICS), _DIALOGUE_WEIGHTS)])


def _converse(w: Writer, tell: Teller) -> None:
    topic = tell(w)
    used: set[str] = set()
    for number in range(1, _MOST + 1):
        questions = {opening: ask for opening, ask in topic.questions().items() if opening not in used}
        opening = w.pick(tuple(questions))
        answer = questions[opening](w)
        used.add(opening)
        w.say(f"{ANSWER}{answer}{CLOSE}")
        if number < _FEWEST:
            w.say(NEXT_USER)
        elif number < _MOST and w.pick((NEXT_USER, END)) == END:
            return
    w.say(END)
