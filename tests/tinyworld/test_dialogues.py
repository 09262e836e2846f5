import re
from random import Random

import pytest

from omnictl.config.split import SPLITS
from omnictl.tinyworld import dialogues, document
from omnictl.tinyworld.dialogues import (
    IMAGE_TASKS,
    MOST_TRAINING_TURNS,
    MOST_TURNS,
    SPOKEN_TASKS,
    TASKS,
    TRANSCRIBE,
    dialogue,
    spoken_answer,
)
from omnictl.tinyworld.images import scenes
from omnictl.tinyworld.images.scenes import scene
from omnictl.tinyworld.language.grammar import NotInGrammar, score
from omnictl.tinyworld.language.lexicon import (
    ANIMAL_HOMES,
    ANIMAL_SOUNDS,
    COLOURS,
    NUMBERS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    plural,
    with_article,
)
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.speech import utterances
from omnictl.tinyworld.speech.utterances import split_of_sentence, utterance
from omnictl.tinyworld.speech.voices import KNOWN_VOICES, REPLY_VOICE, UNSEEN_VOICES
from omnictl.tinyworld.text.documents import write_talk
from omnictl.tinyworld.topics.groups import Groups
from omnictl.tinyworld.topics.images import DescribedImage, Item
from omnictl.tinyworld.topics.topic import find_conclusion

IMAGES = 300
NUM = 120
"""Dialogues of a task that a test looks at."""

SHAPE_OF = {plural(shape): shape for shape in SHAPES} | {shape: shape for shape in SHAPES}
WAY = "|".join(RELATIONS)
PLACE = "|".join(sorted(PLACES, key=len, reverse=True))


def told(task, number, split="train", seed=5):
    return dialogue(seed, split, task, number, images=IMAGES)


def exchanges(task, split="train", num=NUM):
    """Every question of a task with its answer and the images that were shown until then."""
    for number in range(num):
        shown = ()
        for exchange in told(task, number, split):
            shown += exchange.images
            question = exchange.text if exchange.spoken is None else exchange.spoken.text
            yield question, exchange.answer, [scene(5, split, image) for image in shown]


# A second opinion on every answer, from where the shapes lie


def figures(shown, shape):
    return [figure for figure in shown.figures if figure.item.shape == SHAPE_OF[shape]]


def value(shown, shape, attribute):
    """What all shapes of a kind have in common."""
    (only,) = {getattr(figure.item, attribute) for figure in figures(shown, shape)}
    return only


def lies(first, way, second):
    """By coordinates, not by places."""
    right, down = first.x - second.x, first.y - second.y
    return {"to the left of": right < -0.15, "to the right of": right > 0.15, "above": down < -0.15, "below": down > 0.15}[way]


def join_phrases(phrases):
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def seen(shown):
    """Of different shapes each, of groups each group, the larger first."""
    kinds = {figure.item.shape: figure.item for figure in shown.figures}
    numbers = {shape: len(figures(shown, shape)) for shape in kinds}
    if set(numbers.values()) == {1}:
        return join_phrases([with_article(f"{item.colour} {shape}") for shape, item in kinds.items()])
    order = sorted(kinds, key=lambda shape: -numbers[shape])
    return join_phrases([f"{NUMBERS[numbers[s]]} {kinds[s].colour} {s if numbers[s] == 1 else plural(s)}" for s in order])


def all_facts(shown):
    kinds = {figure.item.shape: figure.item for figure in shown.figures}
    numbers = {shape: len(figures(shown, shape)) for shape in kinds}
    several = set(numbers.values()) != {1}
    facts = [
        f"the {s if numbers[s] == 1 else plural(s)} {'is' if numbers[s] == 1 else 'are'} {item.size}, {item.colour} and "
        f"{NUMBERS[numbers[s]] if several else item.place}"
        for s, item in sorted(kinds.items(), key=lambda kind: -numbers[kind[0]])
    ]
    return ". ".join(sentence(fact)[:-1] for fact in facts)


def shapes_from_the_top(shown):
    """`star and moon`: each kind once, by the place in which it comes first."""
    lying = sorted(shown.figures, key=lambda figure: list(PLACES).index(figure.item.place))
    return join_phrases(list(dict.fromkeys(figure.item.shape for figure in lying)))


def so(facts, truth):
    return f"{facts}, so {'yes' if truth else 'no'}"


def counted(shown, noun):
    """`three stars`, by the plural or the singular."""
    (shape,) = {figure.item.shape for figure in shown.figures if noun in (figure.item.shape, plural(figure.item.shape))}
    number = len(figures(shown, shape))
    return number, f"{NUMBERS[number]} {shape if number == 1 else plural(shape)}"


def more(shown, noun, other):
    (first, text), (second, other_text) = counted(shown, noun), counted(shown, other)
    return so(f"there {'is' if first == 1 else 'are'} {text} and {other_text}", first > second)


def related(shown, shape, way, other):
    first, second = figures(shown, shape)[0], figures(shown, other)[0]
    return so(f"the {shape} is {first.item.place} and the {other} is {second.item.place}", lies(first, way, second))


def group(shown, colour):
    (shape,) = {figure.item.shape for figure in shown.figures if figure.item.colour == colour}
    number = len(figures(shown, shape))
    return f"{NUMBERS[number]} {shape if number == 1 else plural(shape)}"


def found_shape(where, found):
    (only,) = found
    return f"{where} is the {only.item.shape}"


JUDGES = {
    r"what colour (is|are) the (\w+)\?": lambda s, verb, shape: f"the {shape} {verb} {value(s, shape, 'colour')}",
    r"tell me the colour of the (\w+)\.": lambda s, shape: f"the {shape} is {value(s, shape, 'colour')}",
    r"what size (is|are) the (\w+)\?": lambda s, verb, shape: f"the {shape} {verb} {value(s, shape, 'size')}",
    r"where is the (\w+)\?|tell me where the (\w+) is\.": lambda s, shape: f"the {shape} is {value(s, shape, 'place')}",
    r"which shape is (\w+)\?": lambda s, colour: found_shape(
        f"the {colour} shape", [f for f in s.figures if f.item.colour == colour]
    ),
    rf"what is ({PLACE})\?": lambda s, place: found_shape(place, [f for f in s.figures if f.item.place == place]),
    rf"what is ({WAY}) the (\w+)\?": lambda s, way, shape: found_shape(
        f"{way} the {shape}", [f for f in s.figures if lies(f, way, figures(s, shape)[0])]
    ),
    r"how many shapes are there\?": lambda s: NUMBERS[len(s.figures)],
    r"how many (\w+) are there\?": lambda s, shape: NUMBERS[len(figures(s, shape))],
    r"is there an? (\w+) in the picture\?": lambda s, shape: so(shapes_from_the_top(s), figures(s, shape)),
    r"is the (\w+) (\w+)\?": lambda s, shape, colour: so(
        f"the {shape} is {value(s, shape, 'colour')}", value(s, shape, "colour") == colour
    ),
    rf"is it true that the (\w+) is ({WAY}) the (\w+)\?": related,
    r"are there more (\w+) than (\w+)\?": more,
    r"tell me what is (\w+)\.": group,
    r"what do you see\?": seen,
    r"tell me all about the picture\.": all_facts,
    r"please describe the picture\.": lambda s: join_phrases([figure.item.phrase() for figure in s.figures]),
}


def about(question, shown):
    """The right answer to a question about an image."""
    for pattern, judge in JUDGES.items():
        if found := re.fullmatch(pattern, question.lower()):
            return judge(shown, *(group for group in found.groups() if group is not None))
    raise AssertionError(f"nobody knows {question!r}")


def about_two(question, shown):
    found = re.fullmatch(r"(.+) in the (first|second) picture\?", question)
    if found:
        return about(f"{found[1]}?", shown[found[2] == "second"])
    shape = re.fullmatch(r"Which picture has an? (\w+)\?", question)[1]
    first, second = (bool(figures(each, shape)) for each in shown)
    assert first != second
    return f"the first shows {shapes_from_the_top(shown[0])}, so the {'first' if first else 'second'}"


def about_the_world(question):
    words = question.lower()[:-1].split()
    number = {word: value for value, word in enumerate(NUMBERS)}
    if words[:3] == ["what", "does", "the"]:
        return ANIMAL_SOUNDS[words[3]]
    if words[:3] == ["where", "does", "the"]:
        return next(home for home, animals in ANIMAL_HOMES.items() if words[3] in animals)
    if words[:2] == ["which", "animal"]:
        return with_article(next(animal for animal, audio in ANIMAL_SOUNDS.items() if audio == words[3]))
    if words[:2] == ["how", "much"]:
        first, sign, second = words[3:]
        return NUMBERS[number[first] + number[second] * (1 if sign == "plus" else -1)]
    if words[:2] == ["which", "number"]:
        return NUMBERS[number[words[4]] + (1 if words[3] == "after" else -1)]
    assert words[:3] == ["please", "count", "to"]
    return ", ".join(NUMBERS[1 : number[words[3]] + 1])


def sentence(phrase):
    return f"{phrase[0].upper()}{phrase[1:]}."


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", [*IMAGE_TASKS, "caption", "spoken_image", "multi_turn"])
def test_answers_about_an_image_are_right(task, split):
    for question, answer, shown in exchanges(task, split):
        (image,) = shown
        assert answer == sentence(about(question, image)), question


def test_answers_about_two_images_are_right():
    answers = [(answer, sentence(about_two(question, shown))) for question, answer, shown in exchanges("two_images")]
    assert all(found == right for found, right in answers)
    assert {"first", "second"} < {found.removesuffix(".").split()[-1] for found, _ in answers}


def test_spoken_answers_are_right():
    for question, answer, shown in exchanges("spoken"):
        assert (answer, shown) == (sentence(about_the_world(question)), [])


def test_what_is_to_be_written_down_is_what_is_heard():
    for number in range(8):
        (exchange,) = told("transcribe", number, "test")
        assert exchange.spoken == utterance(5, "test", number)
        assert (exchange.text, exchange.answer) == (TRANSCRIBE, exchange.spoken.text)


# Kinds of questions


@pytest.mark.parametrize(
    ("task", "openings"),
    [
        ("image_colour", ("What colour ", "Tell me the colour of ")),
        ("image_shape", ("Which shape is ", "What is ")),
        ("image_place", ("Where is the ", "Tell me where the ")),
        ("image_count", ("How many ",)),
        ("image_relation", ("Is it true that the ", "What is ")),
        ("image_yesno", ("Is there a", "Is the ", "Are there more ")),
        ("caption", ("What do you see?", "Please describe the picture.", "Tell me all about the picture.")),
    ],
)
def test_a_task_asks_what_its_name_says_in_every_way(task, openings):
    questions = [question for question, _, _ in exchanges(task)]
    assert all(question.startswith(openings) for question in questions)
    assert all(any(question.startswith(opening) for question in questions) for opening in openings)
    if task in ("image_relation", "image_shape"):
        relates = [any(f" {way} the " in question for way in RELATIONS) for question in questions]
        assert all(relates) if task == "image_relation" else not any(relates)


@pytest.mark.parametrize(("split", "most"), [("train", MOST_TRAINING_TURNS), ("val", MOST_TURNS), ("test", MOST_TURNS)])
def test_several_turns_are_about_one_image(split, most):
    lengths = set()
    for number in range(NUM):
        turns = told("multi_turn", number, split)
        lengths.add(len(turns))
        assert [len(turn.images) for turn in turns] == [1] + [0] * (len(turns) - 1)
    assert {2, 3, 4} <= lengths <= set(range(2, most + 1))


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_answer_is_known_from_the_turns_before(split):
    """Within an image all colours differ: what colour a shape has is known once an answer has named that colour."""
    asked = 0
    for number in range(2 * NUM):
        turns = told("multi_turn", number, split)
        assert len({turn.text for turn in turns}) == len(turns)
        for last, turn in enumerate(turns):
            colours = set(re.findall("|".join(COLOURS), f"{turn.text} {turn.answer}"))
            if len(colours) == 1 and re.match("(What|Tell me the) colour|Which shape", turn.text):
                asked += 1
                assert not any(colour in before.answer for before in turns[:last] for colour in colours)
    assert asked > 50


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("What colour is the star?", {("star", "")}),
        ("The star is red.", {("star", ""), ("star", "red")}),
        ("Is the star blue?", {("star", "")}),
        ("At the top left is the ring.", {("ring", ""), ("ring", "at the top left")}),
        ("The moon is coloured.", set()),
        ("A big red star at the top.", {("star", ""), ("star", "big"), ("star", "red"), ("star", "at the top")}),
    ],
)
def test_what_a_text_says_of_an_image(text, facts):
    image = DescribedImage(painter=None, drawn=True)
    image.items = {"star": Item("big", "red", "star", "at the top"), "ring": Item("small", "blue", "ring", "at the top left")}
    assert dialogues.facts_in(image, text) == facts


def test_what_a_text_says_of_groups():
    groups = Groups()
    groups.items = {"stars": Item("big", "red", "star", "on the left"), "ring": Item("small", "blue", "ring", "on the right")}
    groups.numbers = {"stars": 3, "ring": 1}
    assert dialogues.facts_in(groups, "Three red stars and one ring.") == {
        ("stars", ""), ("stars", "three"), ("stars", "red"), ("ring", ""), ("ring", "one"),
    }  # fmt: skip


def test_texts_are_beginnings_of_documents():
    lengths = []
    for number in range(NUM):
        turns = told("text", number)
        lengths.append(len(turns))
        assert all(turn.spoken is None and turn.images == () for turn in turns)
        text = USER + NEXT_USER.join(f"{turn.text}{ANSWER}{turn.answer}{CLOSE}" for turn in turns)
        try:
            score(write_talk, text)
        except NotInGrammar as error:
            assert error.where == f"character {len(text)}"  # noqa: PT017  everything until its end is of the grammar
    assert {1, 2, 3} <= set(lengths)


def test_greetings_are_not_judged():
    """How one is returned is open."""
    for number in range(NUM):
        assert not re.match(r"(Hello|Hi|Good \w+), \w+!", told("text", number)[-1].answer)


def test_no_word_is_new_to_who_has_read_the_texts():
    words = {word for number in range(1500) for word in re.findall(r"[a-z]+", document(1, "train", number).lower())}
    new = {"second", "write", "down", "hear"}  # of the frame around what is asked
    for task in TASKS:
        for question, answer, _ in exchanges(task, num=40):
            assert set(re.findall(r"[a-z]+", f"{question} {answer}".lower())) <= words | new, question


@pytest.mark.parametrize("task", ["image_yesno", "image_relation"])
def test_no_is_about_as_often_right_as_yes(task):
    ends = [re.search(r"\b(yes|no)\.$", answer.lower()) for _, answer, _ in exchanges(task, num=300)]
    verdicts = [end[1] for end in ends if end]
    assert 0.35 < verdicts.count("yes") / len(verdicts) < 0.65


def test_facts_are_told_apart_from_what_follows_from_them():
    assert find_conclusion("The star is red.") is find_conclusion("Yes.") is None
    for task in ("image_yesno", "image_relation", "two_images"):
        for _, answer, _ in exchanges(task, num=50):
            start = find_conclusion(answer)
            assert (start is None) == (", so " not in answer)
            assert start is None or answer[start:] in {" yes.", " no.", " the first.", " the second."}


# Draws


@pytest.mark.parametrize("task", TASKS)
def test_a_dialogue_is_a_function_of_its_place(task):
    def drawn(**changed):
        place = {"seed": 5, "split": "train", "number": 0} | changed
        return [dialogue(place["seed"], place["split"], task, place["number"] + i, images=IMAGES) for i in range(8)]

    assert drawn() == drawn()
    for changed in ({"seed": 6}, {"split": "val"}, {"number": 8}):
        assert drawn(**changed) != drawn()


def test_only_so_many_images_are_talked_about():
    shown = {image for number in range(100) for e in dialogue(5, "train", "two_images", number, images=7) for image in e.images}
    assert shown == set(range(7))


def test_unseen_voices_are_heard_in_every_second_test_dialogue_alone():
    for task in SPOKEN_TASKS:
        for split in ("train", "val", "test"):
            voices = [told(task, number, split)[-1].spoken.voice for number in range(10)]
            unseen = [split == "test" and number % 2 == 1 for number in range(10)]
            assert [voice in UNSEEN_VOICES for voice in voices] == unseen
            assert [voice in KNOWN_VOICES for voice in voices] == [not each for each in unseen]


@pytest.mark.parametrize("task", ["spoken", "spoken_image"])
def test_training_asks_aloud_what_belongs_to_it_alone(task):
    """Or sentences that are recognised in the test would have been heard."""
    splits = {split: {split_of_sentence(question) for question, _, _ in exchanges(task, split, 300)} for split in SPLITS}
    assert splits == {"train": {"train"}, "val": set(SPLITS), "test": set(SPLITS)}


def test_every_word_of_spoken_questions_is_heard_in_training():
    words = {split: {word for question, _, _ in exchanges("spoken", split, 2_000) for word in question.split()} for split in SPLITS}
    assert words["train"] == words["val"] | words["test"]


def test_answers_are_said_by_one_voice():
    plan = spoken_answer(5, "train", "text", 3, "A dog.")
    assert (plan.text, plan.voice, plan.reverb) == ("A dog.", REPLY_VOICE, 0.0)
    assert plan == spoken_answer(5, "train", "text", 3, "A dog.")
    assert plan.seed != spoken_answer(5, "train", "text", 4, "A dog.").seed


def test_nothing_but_random_is_drawn_from(monkeypatch):
    """Of Python's generator only `random()` gives the same on every version."""

    class OnlyRandom:
        def __init__(self, seed):
            self.random = Random(seed).random

    expected = [told(task, number) for task in TASKS for number in range(3)]
    for module in (dialogues, scenes, utterances):
        monkeypatch.setattr(module, "Random", OnlyRandom)
    scene.cache_clear()
    assert [told(task, number) for task in TASKS for number in range(3)] == expected


def test_words_of_shapes_are_told_apart():
    """The judges above rely on it."""
    assert len(SHAPE_OF) == 2 * len(SHAPES)
    assert not set(COLOURS) & set(SHAPE_OF)
    assert not set(SIZES) & set(SHAPE_OF)
