import random

import pytest

from omnictl.generate.stop_texts import StopTexts


def shown(text: str, stops: list[str], size: int) -> tuple[str, bool]:
    finder = StopTexts(stops)
    parts = []
    for start in range(0, len(text), size):
        released = finder.push(text[start : start + size])
        parts.append(released.text)
        if released.stopped:
            return "".join(parts), True
    return "".join([*parts, finder.finish()]), False


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one two three", [" three"], ("one two", True)),
        ("one two three", ["four"], ("one two three", False)),
        ("aaab", ["aab"], ("a", True)),
        ("one\n\ntwo", ["\n\n"], ("one", True)),
        ("a thre", ["three"], ("a thre", False)),
        ("42</answer>", ["</answer>", "answer"], ("42</", True)),
        ("42</answer>", ["answer>", "</answer>"], ("42", True)),
        ("42</an", ["</answer>", "answer"], ("42</an", False)),
        ("abc", [], ("abc", False)),
    ],
)
def test_a_text_ends_before_the_first_stop_however_it_arrives(
    text: str, stops: list[str], expected: tuple[str, bool], size: int
) -> None:
    assert shown(text, stops, size) == expected


def test_how_a_text_arrives_never_matters() -> None:
    generator = random.Random(0)
    for _ in range(500):
        text, *stops = ("".join(generator.choices("ab", k=length)) for length in (12, *generator.choices(range(2, 6), k=3)))
        assert len({shown(text, stops, size) for size in (1, 2, 5, 12)}) == 1, (text, stops)


def test_only_what_may_become_a_stop_is_held_back() -> None:
    finder = StopTexts(["END"])
    assert finder.push("It is an E").text == "It is an "
    assert finder.push("agle").text == "Eagle"
