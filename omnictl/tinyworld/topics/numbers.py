"""Counting and arithmetic in words: sums and differences within ten."""

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import DAYS, FOODS, NAMES, NUMBERS, WEATHER, count_noun, others, plural, she_or_he
from omnictl.tinyworld.topics.topic import Question, Remark

_GAINS = ("buys", "finds", "gets", "picks")
_LOSSES = ("eats", "loses", "sells", "drops")
_TASTES = ("fresh", "ripe", "good", "tasty", "juicy", "fine", "large", "little")
_LARGEST_TERM = 3
_WHERE = ("at home", "at school", "at work", "in the park", "in the street", "in the shop", "at the market", "on the way")


class Shopping:
    """Two people; each has some of one food, and then more or fewer of it."""

    def __init__(self) -> None:
        self.foods: dict[str, str] = {}  # name -> singular
        self.before: dict[str, int] = {}
        self.now: dict[str, int] = {}

    def remarks(self) -> dict[str, Remark]:
        """What everybody had and has, as numbers and counted out."""
        return {
            "at first": self._recall,
            "let us count the": self._count_out,
            "at the end": self._recall_now,
        }

    def questions(self) -> dict[str, Question]:
        """How many there were and are."""
        return {
            "how many": self._ask_number,
            "what does": self._ask_food,
            "who has the": self._ask_owner,
        } | SUM_QUESTIONS

    def tell(self, w: Writer, name: str) -> None:
        """Write how many of what a person has, how that changes, and how many it leaves."""
        w.say("has")
        number = pick_number(w, 2, 6)
        w.pick(_TASTES)
        foods = {plural(food): food for food in others(tuple(FOODS), tuple(self.foods.values()))}
        food = foods[w.pick(tuple(foods))]
        w.say(f". then {she_or_he(name)}")
        gains = w.pick(_GAINS + _LOSSES) in _GAINS
        change = pick_number(w, 1, 3 if gains else min(number, 3))
        w.say("more" if gains else "of them")
        w.pick(_WHERE)
        self.foods[name] = food
        self.before[name] = number
        self.now[name] = number + change if gains else number - change
        w.say(f". now {she_or_he(name)} has {self._amount(name)}.")

    def _recall_now(self, w: Writer) -> None:
        name = w.pick(tuple(self.foods))
        w.say(f"has {self._amount(name)}.")

    def _recall(self, w: Writer) -> None:
        name = w.pick(tuple(self.foods))
        w.say(f"had {count_noun(self.before[name], self.foods[name])}.")

    def _count_out(self, w: Writer) -> None:
        food = w.pick(tuple(map(plural, self.foods.values())))
        w.say(f". {_count_aloud(self.now[self._owner(food)])}")

    def _ask_number(self, w: Writer) -> str:
        food = w.pick(tuple(map(plural, self.foods.values())))
        name = self._owner(food)
        if w.pick(("does", "did")) == "does":
            w.say(f"{name} have now?")
            return f"{NUMBERS[self.now[name]]}."
        w.say(f"{name} have at first?")
        return f"{NUMBERS[self.before[name]]}."

    def _ask_food(self, w: Writer) -> str:
        name = w.pick(tuple(self.foods))
        w.say("have?")
        return f"{name} has {plural(self.foods[name])}."

    def _ask_owner(self, w: Writer) -> str:
        food = w.pick(tuple(map(plural, self.foods.values())))
        w.say("?")
        return f"{self._owner(food)}."

    def _amount(self, name: str) -> str:
        return count_noun(self.now[name], self.foods[name])

    def _owner(self, foods: str) -> str:
        return next(name for name, food in self.foods.items() if plural(food) == foods)


class Sums:
    """Two people with favourite numbers, and sums with and without these."""

    def __init__(self) -> None:
        self.favourites: dict[str, int] = {}

    def remarks(self) -> dict[str, Remark]:
        """Sums, neighbours among the numbers, and the favourites again."""
        return {
            "after": self._next,
            "before": self._previous,
            "remember that": self._recall,
            "the sum of": self._sum,
        }

    def questions(self) -> dict[str, Question]:
        """The favourites, and sums."""
        return {"which number does": self._ask_favourite, "who likes": self._ask_owner} | SUM_QUESTIONS

    def _next(self, w: Writer) -> None:
        number = pick_number(w, 0, 19)
        w.say(f"comes {NUMBERS[number + 1]}.")

    def _previous(self, w: Writer) -> None:
        number = pick_number(w, 1, 20)
        w.say(f"comes {NUMBERS[number - 1]}.")

    def _recall(self, w: Writer) -> None:
        name = w.pick(tuple(self.favourites))
        w.say(f"likes {NUMBERS[self.favourites[name]]}.")

    def _sum(self, w: Writer) -> None:
        first = pick_number(w, 1, 9)
        w.say("and")
        second = pick_number(w, 1, min(10 - first, _LARGEST_TERM))
        w.say(f"is {NUMBERS[first + second]}.")

    def _ask_favourite(self, w: Writer) -> str:
        name = w.pick(tuple(self.favourites))
        w.say("like?")
        return f"{name} likes {NUMBERS[self.favourites[name]]}."

    def _ask_owner(self, w: Writer) -> str:
        owner = {NUMBERS[number]: name for name, number in self.favourites.items()}
        number = w.pick(tuple(owner))
        w.say("?")
        return f"{owner[number]}."


def tell_shopping(w: Writer) -> Shopping:
    """Two people, what they have, and what becomes of it; after `today is`."""
    w.pick(DAYS)
    w.say("and it is")
    w.pick(WEATHER)
    w.say(".")
    shopping = Shopping()
    first = w.pick(NAMES)
    shopping.tell(w, first)
    second = w.pick(others(NAMES, (first,)))
    shopping.tell(w, second)
    return shopping


def tell_sums(w: Writer) -> Sums:
    """Two favourite numbers and three sums; after `here are some sums.`"""
    sums = Sums()
    first = w.pick(NAMES)
    w.say("likes the number")
    sums.favourites[first] = pick_number(w, 1, 9)
    w.say("and")
    second = w.pick(others(NAMES, (first,)))
    w.say("likes")
    first_favourite = NUMBERS[sums.favourites[first]]
    sums.favourites[second] = NUMBERS.index(w.pick(others(NUMBERS[1:10], (first_favourite,))))
    w.say(".")
    for _ in range(3):
        tell_sum(w, pick_number(w, 1, 9))
    return sums


def tell_sum(w: Writer, first: int) -> None:
    """Write a sum or a difference, after its first term."""
    w.say(f"is {NUMBERS[_pick_result(w, first)]}.")


def _pick_result(w: Writer, first: int) -> int:
    """Write `plus` or `minus` and a second term; returns the result, from zero to ten."""
    if w.pick(("plus", "minus")) == "plus":
        return first + pick_number(w, 1, min(10 - first, _LARGEST_TERM))
    return first - pick_number(w, 1, min(first, _LARGEST_TERM))


def pick_number(w: Writer, lowest: int, highest: int) -> int:
    """Write a number from `lowest` to `highest`."""
    return NUMBERS.index(w.pick(NUMBERS[lowest : highest + 1]))


def _ask_sum(w: Writer) -> str:
    result = _pick_result(w, pick_number(w, 1, 9))
    w.say("?")
    return f"{NUMBERS[result]}."


def _ask_next(w: Writer) -> str:
    number = pick_number(w, 0, 19)
    w.say("?")
    return f"{NUMBERS[number + 1]}."


def _ask_previous(w: Writer) -> str:
    number = pick_number(w, 1, 20)
    w.say("?")
    return f"{NUMBERS[number - 1]}."


def _ask_counting(w: Writer) -> str:
    number = pick_number(w, 2, 10)
    w.say(".")
    return _count_aloud(number)


SUM_QUESTIONS: dict[str, Question] = {
    "how much is": _ask_sum,
    "which number comes after": _ask_next,
    "which number comes before": _ask_previous,
    "please count to": _ask_counting,
}
"""Questions about numbers that need nothing told before."""


def _count_aloud(number: int) -> str:
    """`one, two, three.`"""
    return ", ".join(NUMBERS[1 : number + 1] or NUMBERS[:1]) + "."
