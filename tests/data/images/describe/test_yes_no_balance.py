import random
from collections import Counter

import pytest

from omnictl.data.images.describe.similar_labels import find_similar
from omnictl.data.images.describe.yes_no_balance import MOST_DUE, LabelBalance, TruthBalance

ANIMALS = ["cat", "dog", "deer", "horse", "ship", "plane", "car", "truck"]


def words(labels: list[str]) -> dict[str, frozenset[str]]:
    return {label: frozenset(label.split()) for label in labels}


def ring(labels: list[str]) -> dict[str, tuple[str, ...]]:
    """Each label is similar to its two neighbours."""
    return {label: (labels[number - 1], labels[(number + 1) % len(labels)]) for number, label in enumerate(labels)}


@pytest.mark.parametrize("shares", [[1] * 8, [60, 30, 10, 5, 5, 2, 2, 1]])
def test_every_label_is_asked_about_as_often_with_yes_as_with_no(shares: list[int]) -> None:
    balance = LabelBalance(ring(ANIMALS), words(ANIMALS))
    yes: Counter[str] = Counter()
    no: Counter[str] = Counter()
    near = 0
    for label in random.Random(0).choices(ANIMALS, shares, k=4_000):
        asked = balance.choose(label)
        if asked == label:
            yes[label] += 1
        elif asked is not None:
            no[asked] += 1
            near += asked in ring(ANIMALS)[label]
    assert all(0 <= yes[label] - no[label] <= MOST_DUE for label in ANIMALS)
    assert sum(yes.values()) > 800
    if len(set(shares)) == 1:
        assert yes.total() + no.total() > 3_900
        assert near / no.total() > 0.8


def test_one_label_gets_no_more_questions_than_others_can_balance() -> None:
    balance = LabelBalance({"cat": ("dog",), "dog": ("cat",)}, words(["cat", "dog"]))
    assert [balance.choose("cat") for _ in range(MOST_DUE + 2)] == ["cat"] * MOST_DUE + [None, None]
    assert balance.choose("dog") == "cat"


def test_what_may_be_true_as_well_is_never_asked() -> None:
    labels = ["dog", "hot dog"]
    similar = find_similar(labels, words(labels), {})
    balance = LabelBalance(similar, words(labels))
    assert {balance.choose(label) for label in labels * 9} == {"dog", "hot dog", None}
    assert similar == {"dog": (), "hot dog": ()}
    assert all(balance.choose("dog") in ("dog", None) for _ in range(9))


def test_as_many_truths_as_lies() -> None:
    balance = TruthBalance()
    taken = [verdict for verdict in [True] * 90 + [False] * 10 if balance.take(verdict)]
    assert abs(taken.count(True) - taken.count(False)) <= MOST_DUE
