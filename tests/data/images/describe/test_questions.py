import pytest

from omnictl.data.images.describe.questions import Attribute, describe, sentence


def attribute(name: str, *values: str, called: str | None = None) -> Attribute:
    return Attribute(name, values, called, {})


def test_labels_without_a_name_are_things() -> None:
    animals = attribute("label", "cat", "golden_retriever")
    assert animals.ask("golden_retriever").answer == "A golden retriever."
    assert "What is this?" in animals.ask("cat").wordings
    asked = animals.ask_whether("cat", "golden_retriever")
    assert asked.wordings[0] == "Is this a cat?"
    assert asked.answer == "This is a golden retriever, so no."
    assert animals.ask_whether("cat", "cat").answer == "This is a cat, so yes."


def test_labels_that_are_mostly_plurals_are_groups_unless_something_else_is_said() -> None:
    groups = attribute("label", "animals-nature", "flags", "objects")
    assert groups.is_guess
    assert groups.ask("flags").answer == "The group is flags."
    kinds = attribute("label", "flags", "objects", called="kind")
    assert not kinds.is_guess
    assert kinds.ask("flags").wordings[0] == "What is the kind?"


def test_named_attributes_are_properties() -> None:
    colours = attribute("hair_colour", "red", "black")
    assert colours.ask("red").wordings[0] == "What is the hair colour?"
    assert colours.ask("red").answer == "The hair colour is red."
    asked = colours.ask_whether("black", "red")
    assert asked.wordings[:2] == ("Is the hair colour black?", "Is it true that the hair colour is black?")
    assert asked.answer == "The hair colour is red, so no."


def test_numbers_of_things_are_counted() -> None:
    wheels = attribute("wheels", "1", "4")
    assert wheels.form == "number"
    assert (wheels.ask("4").wordings[0], wheels.ask("4").answer) == ("How many wheels are there?", "There are four wheels.")
    assert wheels.ask("1").answer == "There is one wheel."
    assert wheels.ask_whether("1", "4").wordings[0] == "Is there one wheel?"
    assert attribute("age", "1", "4").ask("4").answer == "The age is 4."


def test_truth_values_are_asked_for_alone() -> None:
    smiling = attribute("smiling", "true", "false")
    assert smiling.form == "truth"
    assert smiling.ask_truth("true").answer == "Yes."
    assert smiling.ask_truth("false").answer == "No."
    assert "Smiling, yes or no?" in smiling.ask_truth("true").wordings


def test_every_question_has_several_different_wordings() -> None:
    forms = [attribute("label", "cat", "dog"), attribute("colour", "red", "blue"), attribute("wheels", "1", "2")]
    questions = [form.ask(value) for form in forms for value in form.phrases]
    questions += [form.ask_whether(*form.phrases) for form in forms]
    for question in [*questions, describe("a dog")]:
        assert len(set(question.wordings)) == len(question.wordings) > 1


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("a dog on a sofa", "A dog on a sofa."),
        ("What a dog!", "What a dog!"),
        ("iPhone on a desk.", "iPhone on a desk."),
        ("“a dog.”", "“a dog.”"),
    ],
)
def test_captions_become_sentences(caption: str, said: str) -> None:
    assert sentence(caption) == said
