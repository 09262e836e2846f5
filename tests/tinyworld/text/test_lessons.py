import math
import re

import pytest

from omnictl.tinyworld.language.grammar import NotInGrammar
from omnictl.tinyworld.language.lexicon import COLOURS, PLACES, SHAPES
from omnictl.tinyworld.text.lessons import FEWEST, MOST, RECALLS, LessonKind, lesson, score_lesson

KINDS: tuple[LessonKind, ...] = ("colours", "lookups", "questions")


@pytest.mark.parametrize("kind", KINDS)
def test_every_lesson_has_a_probability(kind: LessonKind) -> None:
    for index in range(100):
        text = lesson(kind, 1, index)
        scored = score_lesson(kind, text)
        assert 0 < scored.nats < math.inf
        assert math.isclose(scored.nats, -sum(word.log_prob for word in scored.words) - scored.end_log_prob)


@pytest.mark.parametrize("kind", KINDS)
def test_lessons_are_a_pure_function_of_seed_and_index(kind: LessonKind) -> None:
    assert [lesson(kind, 1, index) for index in range(20)] == [lesson(kind, 1, index) for index in range(20)]
    assert len({lesson(kind, seed, index) for seed in (1, 2) for index in range(50)}) > 95  # two short ones may be alike


def test_lookups_of_colours_tell_the_truth() -> None:
    """Read with regular expressions alone, which know nothing of the grammar."""
    numbers = set()
    for index in range(300):
        text = lesson("colours", 3, index).lower()
        facts = {shape: colour for colour, shape in re.findall(r"\ban? (\w+) (\w+)[,.]", text)}
        assert set(facts) <= set(SHAPES)
        assert set(facts.values()) <= set(COLOURS)
        assert len(set(facts.values())) == len(facts)
        numbers.add(len(facts))
        recalled = re.findall(r"the (\w+) is (\w+)\.", text)
        named = re.findall(r"the (\w+) shape is the (\w+)\.", text)
        assert len(recalled) + len(named) == RECALLS
        assert all(facts[shape] == colour for shape, colour in recalled)
        assert all(facts[shape] == colour for colour, shape in named)
    assert numbers == set(range(FEWEST, MOST + 1))


def test_questions_about_places_have_right_answers() -> None:
    """Whether one shape is above another is worked out anew from rows and columns."""
    asked = 0
    for index in range(300):
        text = lesson("questions", 3, index).lower()
        if "places." not in text:
            continue
        facts = dict(re.findall(r"\ban? (\w+) ((?:at|on|in) the [\w ]+?)[,.]", text))
        for first, second, stated, also, answer in re.findall(
            r"is it true that the (\w+) is above the (\w+)\?<\|im_end\|>\n<\|im_start\|>assistant\n"
            r"the \1 is ([\w ]+) and the \2 is ([\w ]+), so (\w+)\.",
            text,
        ):
            asked += 1
            assert (stated, also) == (facts[first], facts[second])
            assert answer == ("yes" if PLACES[facts[first]][0] < PLACES[facts[second]][0] else "no")
    assert asked > 10


def test_verdicts_are_not_all_alike() -> None:
    texts = " ".join(lesson("questions", 5, index).lower() for index in range(400))
    yes, no = (texts.count(f" so {answer}.") for answer in ("yes", "no"))
    assert min(yes, no) > 0.35 * (yes + no) > 30


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_lesson_is_refused(kind: LessonKind) -> None:
    text = lesson(kind, 1, 0)
    with pytest.raises(NotInGrammar):
        score_lesson(kind, text.replace(".", "!", 1))
