from collections import Counter

import numpy as np
import pytest
import torch

from omnictl.data.dialogues.batches import DialogueBatches, Exercise, Mixture, pack_examples
from omnictl.data.dialogues.chat_template import ChatTemplate, Dialogue, Media, Message, Tokens, compute_positions
from omnictl.data.dialogues.examples import DialogueSet, Example, encode_dialogue, encode_last_answer, open_dialogue_set
from omnictl.data.dialogues.media_features import MediaFeatures
from omnictl.data.manifest.rows import BrokenRow
from omnictl.data.text.token_store import TokenStore
from omnictl.data.text.tokenizer import AUDIO, END, IMAGE, PAD, Tokenizer
from omnictl.errors import DataError
from omnictl.nn.losses.cross_entropy import IGNORE

CONTEXT = 96


class Source:
    """Images or recordings whose features tell which they are: `(n, 2)`, all the same number."""

    def __init__(self, counts, grid=None, flaws=None, extra=0):
        self.counts, self.grid, self.flaws, self.extra = counts, grid, flaws or {}, extra

    def count(self, number):
        return self.counts[number]

    def value(self, number):
        return np.full((self.counts[number] + self.extra, 2), number, np.float32)

    def num_features(self, value):
        return len(value)

    def flaw(self, number):
        return self.flaws.get(number)


def asked(task, number, *parts, said="Yes."):
    return Dialogue(
        f"{task}/{number}", task, (Message("user", parts), Message("assistant", (said,))), f"rows.jsonl:{task}/{number}"
    )


class Corpus:
    """Ten dialogues of each of three tasks."""

    generated = False

    def __init__(self, many=10):
        self.many = many

    def tasks(self, split):
        return {"text": self.many, "seen": self.many, "heard": self.many}

    def dialogue(self, split, task, number):
        if task == "text":
            return asked(task, number, "Who? " * (1 + number))
        if task == "seen":
            return asked(task, number, Media("image", number % 3), "What?", Media("image", 2))
        return asked(task, number, Media("audio", number % 4), said="One. " * number + "Two.")


SHOWN = MediaFeatures({"image": Source([4, 4, 4], (2, 2)), "audio": Source([3, 5, 7, 9])})


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(Tokenizer.train_bpe(["Who? What? Yes. One. Two. user assistant"] * 9, 280))


def found(template, shown=SHOWN, context=CONTEXT, many=10):
    return open_dialogue_set(Corpus(many), "train", template, shown, context)


@pytest.fixture(scope="module")
def texts():
    """Documents of 3, 200, 1 and 20 tokens, the end of each among them."""
    lengths = [3, 200, 1, 20]
    documents = [[*(100 + (7 * number + i) % 150 for i in range(length - 1)), END] for number, length in enumerate(lengths)]
    tokens = np.array([END, *(token for document in documents for token in document)], np.uint16)
    return TokenStore("train", tokens, np.cumsum([1, *lengths]), 0)


def batches(template, texts=None, *, weights=None, replay=0.0, placed=False, seed=1, warmup=0, batch_size=8, context=CONTEXT):
    weights = weights or {"text": 1, "seen": 1, "heard": 1}
    mixture = Mixture(weights, replay)
    return DialogueBatches(
        found(template),
        texts,
        template,
        SHOWN,
        mixture,
        batch_size=batch_size,
        seed=seed,
        context=context,
        warmup=warmup,
        placed=placed,
    )


def examples_of(batch):
    """What each example of a batch is, by its number: tokens, targets, positions and the values that follow its placeholders."""
    values = {kind: list(some) for kind, some in batch.media.items()}
    result = {}
    for row in range(len(batch.tokens)):
        for number in dict.fromkeys(batch.segments[row].tolist()):
            if number == -1:
                continue
            here = batch.segments[row] == number
            places = here.nonzero().flatten()
            assert torch.equal(places, torch.arange(int(places[0]), int(places[-1]) + 1)), "an example is in one piece"
            tokens = batch.tokens[row, here].tolist()
            media = []
            for kind, placeholder in (("image", IMAGE), ("audio", AUDIO)):
                left = tokens.count(placeholder)
                while left:
                    value = values[kind].pop(0)
                    media.append((kind, value[0, 0].item(), len(value)))
                    left -= len(value)
            positions = None if batch.positions is None else batch.positions[row, here].tolist()
            result[number] = (tokens, batch.targets[row, here].tolist(), positions, media)
    assert not any(values.values())
    return [result[number] for number in range(len(batch.lengths))]


# Side by side


@pytest.mark.parametrize("placed", [False, True])
def test_an_example_is_the_same_beside_others_as_alone(template, texts, placed):
    made = batches(template, texts, replay=0.3, placed=placed)
    examples = [made.example(position) for position in range(40)]
    together = examples_of(pack_examples(examples, CONTEXT, placed=placed))
    for example, seen in zip(examples, together, strict=True):
        (alone,) = examples_of(pack_examples([example], CONTEXT, placed=placed))
        assert seen == alone
        tokens, targets, positions, _ = seen
        assert (tokens, targets) == (example.encoded.tokens, example.encoded.targets)
        if placed and example.features:
            assert positions == compute_positions(example.encoded, SHOWN.count, SHOWN.grids).tolist()
        if placed and not example.features:
            assert positions == [[number] * 3 for number in range(len(tokens))]


def test_rows_are_filled_and_no_longer_than_needed(template):
    batch = batches(template, batch_size=32).collate(range(32))
    rows, width = batch.tokens.shape
    assert width <= CONTEXT
    assert int(batch.lengths.sum()) > 0.75 * rows * width
    empty = batch.segments == -1
    assert (batch.tokens[empty] == PAD).all()
    assert (batch.targets[empty] == IGNORE).all()
    assert batch.num_targets == int((batch.targets != IGNORE).sum())
    assert batch.lengths.tolist() == [int((batch.segments == number).sum()) for number in range(32)]


def test_a_value_with_more_features_than_places_is_named(template):
    shown = MediaFeatures({"image": Source([4, 4, 4], (2, 2)), "audio": Source([3, 5, 7, 9], extra=1)})
    dialogue = asked("seen", 3, Media("image", 0), Media("audio", 2), Media("image", 1))
    with pytest.raises(DataError) as error:
        pack_examples([encode_dialogue(dialogue, template, shown)], CONTEXT, placed=False)
    assert error.value.message == "audio 1 has 8 features, 7 places were kept for it"
    assert error.value.where == "rows.jsonl:seen/3"
    assert "delete the cache" in error.value.fix
    shown = MediaFeatures({"image": Source([4, 4, 4], (2, 2), extra=-1), "audio": Source([3])})
    with pytest.raises(DataError, match="image 1 has 3 features, 4 places were kept for it"):
        pack_examples([encode_dialogue(asked("seen", 1, Media("image", 1)), template, shown)], CONTEXT, placed=False)


def test_only_the_last_answer_is_judged(template):
    messages = (*asked("a", 1, "Who?", said="One.").messages, *asked("a", 1, Media("audio", 0), said="Two.").messages)
    dialogue = Dialogue("1", "a", messages, "here")
    whole, last = encode_dialogue(dialogue, template, SHOWN).encoded, encode_last_answer(dialogue, template, SHOWN).encoded
    assert last.tokens == whole.tokens
    predicted = [target for target in last.targets if target != IGNORE]
    alone = template.dialogue(messages[2:], SHOWN.count)
    assert predicted == [target for target in alone.targets if target != IGNORE]
    assert last.targets[-len(predicted) :] == predicted


# The order


def test_a_batch_is_a_function_of_its_ids(template, texts):
    made, again = batches(template, texts, replay=0.3, placed=True), batches(template, texts, replay=0.3, placed=True)
    later = again.collate(range(30, 38))
    again.collate(range(3))
    first = made.collate(range(30, 38))
    assert examples_of(first) == examples_of(later) == examples_of(made.collate(range(30, 38)))
    assert torch.equal(first.tokens, later.tokens)
    assert examples_of(batches(template, texts, replay=0.3, placed=True, seed=2).collate(range(30, 38))) != examples_of(first)


@pytest.mark.parametrize("parts", [[(0, 16)], [(0, 8), (8, 16)], [(0, 1), (1, 5), (5, 16)]])
def test_micro_batches_have_the_same_examples(template, texts, parts):
    made = batches(template, texts, replay=0.3, placed=True)
    split = [example for start, stop in parts for example in examples_of(made.collate(range(start, stop)))]
    assert split == examples_of(made.collate(range(16)))
    assert sum(made.collate(range(*part)).num_targets for part in parts) == made.collate(range(16)).num_targets


def test_steps_take_the_positions_in_turn(template):
    made = batches(template, batch_size=8)
    assert list(made.ids(0)) == list(range(8))
    assert list(made.ids(3)) == list(range(24, 32))


def test_projectors_learn_alone_first(template):
    made = batches(template, warmup=16)
    assert [made.collate(made.ids(step)).projectors_only for step in range(4)] == [True, True, False, False]


def test_short_dialogues_with_other_features_come_first(template):
    mixture = Mixture({"seen": 1}, 0)
    first = Exercise(SHOWN, mixture, 16, turns=1)
    made = DialogueBatches(
        found(template), None, template, SHOWN, Mixture({"text": 1}, 0),
        batch_size=8, seed=1, context=CONTEXT, warmup=8, placed=False, exercises=(first,),
    )  # fmt: skip
    kinds = [(batch.imitates, batch.projectors_only) for batch in (made.collate(made.ids(step)) for step in range(4))]
    assert kinds == [(True, False), (True, False), (False, True), (False, False)]
    assert made.typical_step == 3
    tasks = [made.example(position).where.split(":")[1].split("/")[0] for position in range(32)]
    assert tasks == ["seen"] * 16 + ["text"] * 16


def test_the_first_exercise_comes_back_once_the_whole_model_learns(template):
    first = Exercise(None, Mixture({"heard": 1}, 0), 8)
    made = DialogueBatches(
        found(template), None, template, SHOWN, Mixture({"text": 1}, 0),
        batch_size=8, seed=1, context=CONTEXT, warmup=8, placed=False, exercises=(first,), repeated=0.25,
    )  # fmt: skip
    tasks = [made.example(position).where.split(":")[1].split("/")[0] for position in range(2016)]
    assert tasks[:16] == ["heard"] * 8 + ["text"] * 8
    assert Counter(tasks[16:])["heard"] / 2000 == pytest.approx(0.25, abs=0.03)


def test_of_some_first_dialogues_only_the_end_is_learned(template):
    def find_end(answer: str) -> int | None:
        return answer.rindex(" Two.") if " " in answer else None

    exercise = Exercise(None, Mixture({"heard": 1}, 0), 40, find_learned=find_end)
    made = DialogueBatches(
        found(template), None, template, SHOWN, Mixture({"text": 1}, 0),
        batch_size=8, seed=1, context=CONTEXT, warmup=0, placed=False, exercises=(exercise,),
    )  # fmt: skip
    for position in range(40):
        example = made.example(position)
        assert not example.where.endswith("/0")  # "Two." alone has no end of its own
        assert not example.encoded.media
        learned = [token for token in example.encoded.targets if token != IGNORE]
        assert template.tokenizer.decode(learned).removesuffix("<|im_end|>") == " Two."


def test_tasks_are_drawn_as_they_are_weighed(template, texts):
    made = batches(template, texts, weights={"text": 1, "seen": 2, "heard": 5}, replay=0.2)
    drawn = Counter()
    for position in range(3000):
        example = made.example(position)
        drawn["replay" if example.features is None else example.where.split(":")[1].split("/")[0]] += 1
    shares = {"replay": 0.2, "text": 0.1, "seen": 0.2, "heard": 0.5}
    assert {name: drawn[name] / 3000 for name in shares} == pytest.approx(shares, abs=0.03)


def test_a_task_without_weight_is_not_drawn(template):
    made = batches(template, weights={"heard": 1})
    assert all("heard/" in made.example(position).where for position in range(50))


def test_without_texts_nothing_is_replayed(template):
    made = batches(template, None, replay=0.9)
    assert all(made.example(position).features is not None for position in range(50))


# Replayed texts


def test_replayed_documents_are_whole_or_pieces_of_the_context(template, texts):
    made = batches(template, texts, replay=1.0)
    starts, lengths = set(), Counter()
    stream = texts.tokens.tolist()
    for position in range(300):
        tokens, targets, media = made.example(position).encoded
        assert media == ()
        place_found = [
            number
            for number in range(3)
            if (tokens, targets)
            == (stream[texts.bounds[number] - 1 :][: len(tokens)], stream[texts.bounds[number] :][: len(tokens)])
        ]
        lengths[len(tokens)] += 1
        if len(tokens) == CONTEXT:
            starts.add(tuple(tokens[:3]))
            assert tokens[1:] == targets[:-1]
        elif len(tokens) == 3:
            assert place_found == [0]
    assert set(lengths) == {3, CONTEXT, 1, 20}
    assert len(starts) > 10
    assert all(50 < count < 100 for count in lengths.values())


def test_a_replayed_document_begins_after_an_end(template, texts):
    for position in range(100):
        example = batches(template, texts, replay=1.0).example(position)
        if len(example.encoded.tokens) < CONTEXT:
            assert example.encoded.tokens[0] == END
            assert example.encoded.targets[-1] == END
            assert IGNORE not in example.encoded.targets


# What can be used


def test_what_cannot_be_heard_or_is_too_long_is_set_aside_with_the_reason(template):
    shown = MediaFeatures({"image": Source([4, 4, 4], (2, 2)), "audio": Source([3, 0, 7, 90], flaws={1: "b.wav is cut off"})})
    usable = found(template, shown)
    assert [number for number in range(10) if number not in usable.numbers["heard"]] == [1, 3, 5, 7, 9]
    reasons = {row.id: row for row in usable.set_aside}
    assert reasons["heard/1"] == BrokenRow("heard/1", "rows.jsonl:heard/1", "b.wav is cut off")
    length = len(template.dialogue(Corpus().dialogue("train", "heard", 3).messages, shown.count).tokens)
    message = f"the dialogue is {length} positions long, 90 of them images and recordings; the context has {CONTEXT}"
    assert reasons["heard/3"].message == message
    assert len(usable) + len(usable.set_aside) == 30
    assert list(usable.numbers["seen"]) == list(range(10))


def test_a_context_that_just_holds_a_dialogue(template):
    length = len(template.dialogue(Corpus().dialogue("train", "text", 9).messages, SHOWN.count).tokens)
    assert 9 in found(template, context=length).numbers["text"]
    assert 9 not in found(template, context=length - 1).numbers["text"]


def test_a_task_of_which_nothing_is_usable_is_none(template):
    shown = MediaFeatures({"image": Source([4, 4, 4], (2, 2)), "audio": Source([0] * 4, flaws=dict.fromkeys(range(4), "gone"))})
    assert set(found(template, shown).numbers) == {"text", "seen"}


def test_dialogues_come_one_of_each_task_in_turn(template):
    shown = MediaFeatures({"image": Source([4, 4, 4], (2, 2)), "audio": Source([3, 5, 7, 9], flaws={0: "gone"})})
    ids = [dialogue.id for dialogue in found(template, shown, many=3).all()]
    assert ids == ["text/0", "seen/0", "heard/1", "text/1", "seen/1", "heard/2", "text/2", "seen/2"]
    assert list(DialogueSet(Corpus(), "train", {}, ()).all()) == []


def test_generated_training_dialogues_are_looked_at_when_they_are_drawn(template):
    class Endless(Corpus):
        generated = True

        def dialogue(self, split, task, number):
            return asked(task, number, "Who? " * (1 + number % 40))

    endless = open_dialogue_set(Endless(10**6), "train", template, SHOWN, CONTEXT)
    assert (len(endless), endless.set_aside) == (3 * 10**6, ())
    made = DialogueBatches(
        endless, None, template, SHOWN, Mixture({"text": 1}, 0), batch_size=4, seed=0, context=40, warmup=0, placed=False
    )
    lengths = [len(made.example(position).encoded.tokens) for position in range(50)]
    assert max(lengths) <= 40
    assert len(set(lengths)) > 2


def test_a_context_that_holds_no_dialogue_is_told(template):
    made = batches(template, context=4)
    with pytest.raises(DataError) as error:
        made.example(0)
    assert error.value.message == "100 dialogues in a row are longer than the Thinker's context of 4 positions"
    assert error.value.where.startswith("rows.jsonl:")


def test_an_example_longer_than_the_context_is_our_own_mistake():
    with pytest.raises(AssertionError):
        pack_examples([Example(Tokens([1] * 9, [1] * 9, ()), None, "")], 8, placed=False)
