import numpy as np

from omnictl.data.images.describe import similar_labels
from omnictl.data.images.describe.similar_labels import NEAREST, find_similar


def words(*labels: str) -> dict[str, frozenset[str]]:
    return {label: frozenset(label.split()) for label in labels}


def look(value: float) -> np.ndarray:
    return np.full(similar_labels.SIDE**2 * 3, value)


def test_a_shared_word_comes_before_looks_and_looks_before_the_rest() -> None:
    known = words("golden retriever", "labrador retriever", "golden eagle", "ship", "plane", "car")
    looks = {"golden retriever": look(10), "ship": look(11), "plane": look(90), "car": look(50)}
    similar = find_similar(list(known), known, looks)
    assert set(similar["golden retriever"][:2]) == {"labrador retriever", "golden eagle"}
    assert similar["golden retriever"][2] == "ship"


def test_similarity_goes_both_ways() -> None:
    known = words(*"abcdefgh")
    similar = find_similar(list(known), known, {label: look(number**2) for number, label in enumerate(known)})
    assert similar["h"][:NEAREST] == ("g", "f", "e")
    assert all(label in similar[other] for label in known for other in similar[label])


def test_numbers_are_similar_to_the_nearest() -> None:
    known = words("1", "2", "3", "30", "31")
    assert find_similar(list(known), known, {})["30"][:NEAREST] == ("31", "3", "2")


def test_many_labels_are_compared_by_name(monkeypatch) -> None:
    monkeypatch.setattr(similar_labels, "MOST_COMPARED", 3)
    known = words("golden retriever", "apple pie", "labrador retriever", "grey wolf", "cherry pie")
    similar = find_similar(list(known), known, {})
    assert "cherry pie" in similar["apple pie"][:2]
    assert "labrador retriever" in similar["golden retriever"][:2]
