"""The topic of a document: facts told once, then recalled in remarks or asked for in questions."""

from collections.abc import Callable
from typing import Protocol

from omnictl.tinyworld.language.grammar import Writer

Remark = Callable[[Writer], None]
"""Writes the rest of a sentence, or of a few, after the opening words."""

Question = Callable[[Writer], str]
"""Writes the rest of a question after its opening words; returns the one right answer."""


class Topic(Protocol):
    """The facts of one document. Both maps are by opening words; no opening begins another."""

    def remarks(self) -> dict[str, Remark]:
        """What can be said of the facts now."""

    def questions(self) -> dict[str, Question]:
        """What can be asked of the facts now."""


Teller = Callable[[Writer], Topic]
"""Writes the sentences that set a topic up, after the opening words of the document."""


def fixed_remark(rest: str) -> Remark:
    """A remark with nothing left to choose after its opening."""
    return lambda w: w.say(rest)


def fixed_question(rest: str, answer: str) -> Question:
    """A question with nothing left to choose after its opening."""

    def ask(w: Writer) -> str:
        w.say(rest)
        return answer

    return ask


CONCLUSION = ", so"


def conclude(facts: str, verdict: bool, words: tuple[str, str] = ("no", "yes")) -> str:
    """`the star is red, so yes.`: the answer to whether something is so, after the facts that it follows from.

    A model that has said the facts has looked them up; what is left is to compare them.

    Args:
        facts: what is so.
        verdict: what follows.
        words: for a verdict that is false, and for one that is true.
    """
    return f"{facts}{CONCLUSION} {words[verdict]}."


def find_conclusion(answer: str) -> int | None:
    """Where the verdict, such as ` yes.`, begins in an answer that states facts before it; None: it is another kind of answer."""
    return answer.rindex(CONCLUSION) + len(CONCLUSION) if CONCLUSION in answer else None
