"""Single sentences about who did what, where and how. Nothing in them depends on another sentence."""

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import (
    ANIMAL_SOUNDS,
    COATS,
    COLOURS,
    DAYS,
    FOODS,
    JOBS,
    LANDMARKS,
    LOOKS,
    MANNERS,
    NAMES,
    ROOMS,
    SPOTS,
    THINGS,
    TIMES,
    TRAITS,
    WEATHER,
    others,
)
from omnictl.tinyworld.topics.topic import Question, Remark

_HANDLED = ("found", "lost", "hid", "dropped", "put", "left", "saw", "kept")
_MOVED = ("walked", "ran", "sat", "slept", "waited", "played", "sang", "jumped")
_WEIGHTS = (4, 2, 2, 1, 1)


class News:
    """No facts to come back to: every remark is news."""

    def remarks(self) -> dict[str, Remark]:
        """Five kinds of sentences."""
        return {"on": _deed, "a": _animal, "the": _meeting, "it was": _weather, "at the market": _shopping}

    def questions(self) -> dict[str, Question]:
        """None: there is no one right answer."""
        return {}


def tell_news(w: Writer) -> News:
    """Three sentences; after `here is the news.`"""
    news = News()
    for _ in range(3):
        remarks = news.remarks()
        remarks[w.pick(tuple(remarks), _WEIGHTS)](w)
    return news


def _deed(w: Writer) -> None:
    w.pick(DAYS)
    w.pick(NAMES)
    w.pick(MANNERS)
    w.pick(_HANDLED)
    w.say("a")
    w.pick(LOOKS)
    w.pick(COLOURS)
    w.pick(THINGS)
    w.pick(SPOTS)
    w.say(".")


def _animal(w: Writer) -> None:
    w.pick(COATS)
    w.pick(tuple(ANIMAL_SOUNDS))
    w.pick(_MOVED)
    w.pick(MANNERS)
    w.say("near the")
    w.pick(LANDMARKS)
    w.say(".")


def _meeting(w: Writer) -> None:
    w.pick(TRAITS)
    w.pick(JOBS)
    w.say("met")
    w.pick(NAMES)
    w.say("in the")
    w.pick(ROOMS)
    w.say("and they")
    w.pick(_MOVED)
    w.say("near the")
    w.pick(LANDMARKS)
    w.say(".")


def _weather(w: Writer) -> None:
    w.say("a")
    w.pick(WEATHER)
    w.pick(TIMES)
    w.say("and")
    w.pick(NAMES)
    w.pick(_MOVED)
    w.pick(MANNERS)
    w.say("in the")
    w.pick(ROOMS)
    w.say(".")


def _shopping(w: Writer) -> None:
    name = w.pick(NAMES)
    w.say("and")
    w.pick(others(NAMES, (name,)))
    w.pick(("bought", "sold", "lost", "found"))
    foods = tuple(FOODS.values())
    food = w.pick(foods)
    w.say("and")
    w.pick(others(foods, (food,)))
    w.say(".")
