"""What a person and the assistant say to each other about texts, images and audio, each dialogue a pure function of
(seed, split, task, number).

Every question has one right answer. Questions about images are the ones that the texts ask about described images; what is
asked aloud is asked in any voice, in the test split half of the time in one that is heard nowhere else.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from omnictl.config.split import Split
from omnictl.tinyworld.images.scenes import Scene, scene, sentence
from omnictl.tinyworld.language import grammar
from omnictl.tinyworld.language.grammar import END, Sampler, render
from omnictl.tinyworld.language.lexicon import COLOURS, NUMBERS, RELATIONS, SHAPES, plural, with_article
from omnictl.tinyworld.language.markup import ANSWER, CLOSE, NEXT_USER, USER
from omnictl.tinyworld.speech.utterances import Utterance, draw_utterance, reply_utterance, split_of_sentence, utterance
from omnictl.tinyworld.text.documents import write_talk
from omnictl.tinyworld.topics.animals import ANIMAL_QUESTIONS
from omnictl.tinyworld.topics.chat import GREETINGS
from omnictl.tinyworld.topics.groups import Groups
from omnictl.tinyworld.topics.images import DescribedImage, Item, name_shapes, sort_by_place
from omnictl.tinyworld.topics.numbers import SUM_QUESTIONS
from omnictl.tinyworld.topics.topic import Question, conclude, fixed_question

IMAGE_TASKS = ("image_colour", "image_shape", "image_place", "image_count", "image_relation", "image_yesno")
"""One question about one image."""

TASKS = ("text", *IMAGE_TASKS, "caption", "spoken", "spoken_image", "transcribe", "two_images", "multi_turn")

SPOKEN_TASKS = ("spoken", "spoken_image", "transcribe")
"""One recording a dialogue; the others have none."""

TRANSCRIBE = "Please write down what you hear."

ALL_FACTS = "tell me all about the picture"
"""Opens the one question that the texts do not ask: size, colour and place, or number, of every shape."""

MOST_TURNS = 4
MOST_TRAINING_TURNS = 12
"""About one image: many questions, and many answers to learn from, for one look."""

DRAWS = 3
"""Questions drawn for each that asks for something new."""

Fact = tuple[str, str]
"""A shape and a word that is true of it; an empty one: that it is there."""

_SPOKEN_QUESTIONS = ANIMAL_QUESTIONS | SUM_QUESTIONS
_KINDS: Mapping[str, str] = {
    "what colour is the": "image_colour",
    "tell me the colour of the": "image_colour",
    "what colour": "image_colour",
    "which shape is": "image_shape",
    "what is": "image_shape",
    "where is the": "image_place",
    "tell me where the": "image_place",
    "how many shapes": "image_count",
    "how many": "image_count",
    "is it true that the": "image_relation",
    "is there": "image_yesno",
    "is the": "image_yesno",
    "are there more": "image_yesno",
    "what do you": "caption",
    "please describe": "caption",
    ALL_FACTS: "caption",
    "what size is the": "size",
    "what size": "size",
    "tell me what is": "number_and_shape",
}
"""What a question about an image asks for, by its opening; that of two shapes asks for a relation if it names one."""

_UNASKED = {"where", "who made"}
"""Of two groups in a drawn image the side is not always plain, and nobody painted it."""


class Exchange(NamedTuple):
    """What a person asks, and the right answer."""

    images: tuple[int, ...]
    """The numbers of the scenes that are shown, in order."""
    spoken: Utterance | None
    """What is heard."""
    text: str
    """What is read; empty if the question is heard."""
    answer: str


class AnsweredQuestion(NamedTuple):
    """A question with its answer, and what kind it is of."""

    kind: str
    question: str
    answer: str


def dialogue(seed: int, split: Split, task: str, number: int, *, images: int) -> tuple[Exchange, ...]:
    """One dialogue; its last answer is the one to be judged.

    Args:
        seed: of the world.
        split: of which part.
        task: one of `TASKS`.
        number: which of that task.
        images: so many scenes of the split are talked about.
    """
    rng = Random(_hash(f"dialogue/{seed}/{split}/{task}/{number}"))
    talk = _Talk(seed, split, number, images, rng)
    tellers: dict[str, Callable[[], tuple[Exchange, ...]]] = {
        "text": talk.text,
        "caption": lambda: talk.about_image("caption"),
        "spoken": talk.spoken,
        "spoken_image": talk.spoken_image,
        "transcribe": talk.transcribe,
        "two_images": talk.two_images,
        "multi_turn": talk.multi_turn,
    }
    return tellers[task]() if task in tellers else talk.about_image(task)


def spoken_answer(seed: int, split: Split, task: str, number: int, answer: str) -> Utterance:
    """The last answer of a dialogue in the voice of the world's replies."""
    return reply_utterance(Random(_hash(f"answer/{seed}/{split}/{task}/{number}")), answer)


class _Talk:
    """Draws the dialogues of one number. Only `rng.random()` is used, which every Python version computes alike."""

    def __init__(self, seed: int, split: Split, number: int, images: int, rng: Random) -> None:
        self._seed, self._split, self._number, self._images, self._rng = seed, split, number, images, rng

    def text(self) -> tuple[Exchange, ...]:
        """A dialogue of the texts, up to any of its questions that has one right answer."""
        document = grammar.sample(write_talk, self._rng)
        turns = document.removeprefix(USER).removesuffix(CLOSE).split(f"{CLOSE}{NEXT_USER}")
        exchanges = [Exchange((), None, *turn.split(ANSWER)) for turn in turns]
        first = 2 if document.removeprefix(USER).lower().startswith(GREETINGS) else 1  # how a greeting is returned is open
        return tuple(exchanges[: first + self._below(len(exchanges) + 1 - first)])

    def about_image(self, kind: str) -> tuple[Exchange, ...]:
        """A question of this kind about an image that it can be asked of."""
        image, asked = self._image_and_question({kind})
        return (Exchange((image,), None, asked.question, asked.answer),)

    def spoken(self) -> tuple[Exchange, ...]:
        """A question that needs nothing told before, aloud."""
        return self._aloud(self._about_the_world)

    def spoken_image(self) -> tuple[Exchange, ...]:
        """A question about an image, aloud."""
        return self._aloud(lambda: self.about_image(self._pick(IMAGE_TASKS)))

    def transcribe(self) -> tuple[Exchange, ...]:
        """A sentence to write down."""
        heard = utterance(self._seed, self._split, self._number)
        return (Exchange((), heard, TRANSCRIBE, heard.text),)

    def two_images(self) -> tuple[Exchange, ...]:
        """A question about one of two images, or about which of them shows something."""
        while True:
            numbers = (self._below(self._images), self._below(self._images))
            options = list(_comparisons(*(scene(self._seed, self._split, number) for number in numbers)))
            if options:
                asked = options[self._below(len(options))]
                return (Exchange(numbers, None, asked.question, asked.answer),)

    def multi_turn(self) -> tuple[Exchange, ...]:
        """Two to four questions about one image, of any kind; in training up to twelve.

        Each asks for something that is not said before. Who has read the dialogue must still look at the image.
        """
        most = MOST_TRAINING_TURNS if self._split == "train" else MOST_TURNS
        while True:
            image = self._below(self._images)
            asked = self._ask_for_news(topic_of(scene(self._seed, self._split, image)), 2 + self._below(most - 1))
            if len(asked) > 1:
                return tuple(Exchange(() if turn else (image,), None, *words) for turn, words in enumerate(asked.items()))

    def _ask_for_news(self, topic: DescribedImage | Groups, turns: int) -> dict[str, str]:
        """So many questions with their answers, or fewer once nothing new is found to be asked."""
        questions, said, asked = questions_of(topic), set[Fact](), dict[str, str]()
        for _ in range(turns * DRAWS):
            opening = self._pick(tuple(questions))
            question, answer = _write(opening, questions[opening], self._rng)
            named = facts_in(topic, question)
            told = facts_in(topic, f"{question} {answer}") - named
            if question not in asked and (told - said or not told):  # of numbers of shapes, answers tell no fact
                asked[question] = answer
                said |= named | told
            if len(asked) == turns:
                break
        return asked

    def _image_and_question(self, kinds: set[str]) -> tuple[int, AnsweredQuestion]:
        while True:
            image = self._below(self._images)
            topic = topic_of(scene(self._seed, self._split, image))
            questions = questions_of(topic)
            for _ in range(4):
                opening = self._pick(tuple(questions))
                asked = _ask(opening, questions[opening], self._rng)
                if asked.kind in kinds:
                    return image, asked

    def _about_the_world(self) -> tuple[Exchange, ...]:
        opening = self._pick(tuple(_SPOKEN_QUESTIONS))
        return (Exchange((), None, *_write(opening, _SPOKEN_QUESTIONS[opening], self._rng)),)

    def _aloud(self, draw: Callable[[], tuple[Exchange, ...]]) -> tuple[Exchange, ...]:
        """A question as it is said; in training one that belongs there, lest sentences to be recognised in the test are heard."""
        (asked,) = draw()
        while self._split == "train" and split_of_sentence(asked.text) != "train":
            (asked,) = draw()
        spoken = draw_utterance(self._rng, asked.text, unseen_voice=self._split == "test" and self._number % 2 == 1)
        return (asked._replace(spoken=spoken, text=""),)

    def _below(self, number: int) -> int:
        return int(self._rng.random() * number)

    def _pick(self, options: tuple[str, ...]) -> str:
        return options[self._below(len(options))]


def facts_in(topic: DescribedImage | Groups, text: str) -> set[Fact]:
    """What a text says of the shapes of an image, or may be taken to say: which ones it names, with which true words."""
    words = f" {' '.join(re.findall('[a-z]+', text.lower()))} "
    facts = set[Fact]()
    for noun, item in topic.items.items():
        if f" {noun} " in words:
            last = NUMBERS[topic.numbers[noun]] if isinstance(topic, Groups) else item.place
            facts |= {(noun, "")} | {(noun, word) for word in (item.size, item.colour, last) if f" {word} " in words}
    return facts


def topic_of(shown: Scene) -> DescribedImage | Groups:
    """A scene as the topic of a text, which knows what can be asked."""
    items = [figure.item for figure in shown.figures]
    if len({item.shape for item in items}) == len(items):
        image = DescribedImage(painter=None, drawn=True)
        image.items = {item.shape: item for item in items}
        return image
    groups = Groups()
    shapes = sorted({item.shape: item for item in items}.values(), key=lambda item: -_number_of(items, item.shape))
    for item in shapes:
        number = _number_of(items, item.shape)
        noun = item.shape if number == 1 else plural(item.shape)
        groups.items[noun], groups.numbers[noun] = item, number
    return groups


def _number_of(items: list[Item], shape: str) -> int:
    return sum(item.shape == shape for item in items)


def questions_of(topic: DescribedImage | Groups) -> dict[str, Question]:
    """What a drawn image answers, by opening words."""
    unasked = _UNASKED | ({"what is"} if isinstance(topic, Groups) else set())
    questions = {opening: ask for opening, ask in topic.questions().items() if opening not in unasked}
    return questions | {ALL_FACTS: fixed_question(".", all_facts(topic))}


def all_facts(topic: DescribedImage | Groups) -> str:
    """`the star is big, blue and on the right.`, and so on for every shape; of like shapes their number instead of a place."""
    if isinstance(topic, DescribedImage):
        facts = [f"the {shape} is {item.size}, {item.colour} and {item.place}." for shape, item in topic.items.items()]
    else:
        verbs = {noun: "is" if number == 1 else "are" for noun, number in topic.numbers.items()}
        facts = [
            f"the {noun} {verbs[noun]} {item.size}, {item.colour} and {NUMBERS[topic.numbers[noun]]}."
            for noun, item in topic.items.items()
        ]
    return " ".join(facts)


def _ask(opening: str, ask: Question, rng: Random) -> AnsweredQuestion:
    question, answer = _write(opening, ask, rng)
    of_relation = opening == "what is" and any(f" {relation} the " in question for relation in RELATIONS)
    return AnsweredQuestion("image_relation" if of_relation else _KINDS[opening], question, answer)


def _write(opening: str, ask: Question, rng: Random) -> tuple[str, str]:
    """A question and its answer as they are read."""
    writer = Sampler(rng)
    writer.say(opening)
    answer = ask(writer)
    writer.say(END)
    return render(writer.phrases), render([answer, END])


def _comparisons(first: Scene, second: Scene) -> Iterator[AnsweredQuestion]:
    kind = "two_images"
    for place, shown in (("first", first), ("second", second)):
        where = f"in the {place} picture?"
        for item in _distinct(shown):
            yield AnsweredQuestion(kind, f"What colour is the {item.shape} {where}", sentence(f"the {item.shape} is {item.colour}"))
            yield AnsweredQuestion(
                kind, f"Which shape is {item.colour} {where}", sentence(f"the {item.colour} shape is the {item.shape}")
            )
    shapes = [{figure.item.shape for figure in shown.figures} for shown in (first, second)]
    facts = f"the first shows {name_shapes(sort_by_place(figure.item for figure in first.figures))}"
    for shape in SHAPES:
        if (shape in shapes[0]) != (shape in shapes[1]):
            answer = conclude(facts, shape in shapes[0], ("the second", "the first"))
            yield AnsweredQuestion(kind, f"Which picture has {with_article(shape)}?", render([answer, END]))


def _distinct(shown: Scene) -> list[Item]:
    """The items of a scene that are the only ones of their shape and colour, in the order of colours."""
    items = [figure.item for figure in shown.figures]
    single = [item for item in items if _number_of(items, item.shape) == 1]
    return sorted(single, key=lambda item: COLOURS.index(item.colour))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=16).digest(), "big")
