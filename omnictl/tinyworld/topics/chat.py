"""Talk between a person and the assistant: greetings, what the person tells of themselves, and general questions."""

from typing import NamedTuple

from omnictl.tinyworld.language.grammar import Writer
from omnictl.tinyworld.language.lexicon import (
    ANIMAL_SOUNDS,
    COLOURS,
    DAYS,
    HOBBIES,
    JOBS,
    LANDMARKS,
    NAMES,
    NUMBERS,
    SIZES,
    THINGS,
    others,
)
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER
from omnictl.tinyworld.topics.animals import ANIMAL_QUESTIONS
from omnictl.tinyworld.topics.numbers import SUM_QUESTIONS
from omnictl.tinyworld.topics.topic import Question, Remark, fixed_question

GREETINGS = ("hello", "hi", "good morning", "good evening", "good day")
ASSISTANT_NAME = "Omni"


class _Fact(NamedTuple):
    """What people tell of themselves, and how it is asked for."""

    values: tuple[str, ...]
    question: str  # without its mark
    answer: str


_FACTS = {
    "I am a": _Fact(JOBS, "what is my job", "you are a {}."),
    "I live near the": _Fact(LANDMARKS, "where do I live", "you live near the {}."),
    "I like to": _Fact(HOBBIES, "what do I like to do", "you like to {}."),
    "my favourite colour is": _Fact(COLOURS, "what is my favourite colour", "your favourite colour is {}."),
    "my favourite animal is the": _Fact(tuple(ANIMAL_SOUNDS), "which animal do I like", "you like the {}."),
    "my lucky number is": _Fact(NUMBERS, "what is my lucky number", "your lucky number is {}."),
    "my free day is": _Fact(DAYS, "which day is free", "your free day is {}."),
}


class Chat:
    """A person with a name, who has told four things."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.facts: dict[str, str] = {}

    def remarks(self) -> dict[str, Remark]:
        """None: this is a dialogue."""
        return {}

    def questions(self) -> dict[str, Question]:
        """About the person, about animals and numbers, and courtesies."""
        questions: dict[str, Question] = {
            _FACTS[fact].question: fixed_question("?", _FACTS[fact].answer.format(value)) for fact, value in self.facts.items()
        }
        questions["what is my name"] = fixed_question("?", f"your name is {self.name}.")
        questions["do you know my name"] = fixed_question("?", f"your name is {self.name}.")
        questions["what is your name"] = fixed_question("?", f"my name is {ASSISTANT_NAME}.")
        questions["thank"] = self._thank
        questions["please say"] = _ask_echo
        return questions | ANIMAL_QUESTIONS | SUM_QUESTIONS

    def tell_fact(self, w: Writer) -> None:
        """Write one more thing about the person."""
        fact = w.pick(others(tuple(_FACTS), tuple(self.facts)))
        self.facts[fact] = w.pick(_FACTS[fact].values)
        w.say(".")

    def _thank(self, w: Writer) -> str:
        w.say("you.")
        return f"you are welcome, {self.name}."


def tell_chat(greeting: str, w: Writer) -> Chat:
    """A greeting and its return, with four facts between; after `greeting`."""
    w.say("! my name is")
    chat = Chat(w.pick(NAMES))
    w.say(".")
    for _ in range(4):
        chat.tell_fact(w)
    w.say(f"{ANSWER}{greeting}, {chat.name}!")
    w.pick(("nice to meet you.", "what can I do for you?", "I am glad to see you."))
    w.say(f"{CLOSE}{NEXT_USER}")
    return chat


def _ask_echo(w: Writer) -> str:
    size = w.pick(SIZES)
    colour = w.pick(COLOURS)
    noun = w.pick(THINGS)
    w.say(".")
    return f"{size} {colour} {noun}."
