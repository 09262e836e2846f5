"""What a CTC model spells."""

from pathlib import Path

import pytest

from omnictl.data.speech.transcripts.targets import BpeTargets, CharacterTargets
from omnictl.data.speech.transcripts.transcript import ALPHABET
from omnictl.errors import DataError
from omnictl.nn.losses.ctc import BLANK

TEXTS = ["the cat sat on the mat", "it's the hat of the cat", "the bat and the rat", ""]


def test_characters_are_numbered_from_one() -> None:
    targets = CharacterTargets()
    assert targets.num_symbols == 29
    assert targets.encode(ALPHABET) == list(range(1, 29))
    assert targets.encode("a cat's") == [3, 1, 5, 3, 22, 2, 21]
    assert [targets.decode(targets.encode(text)) for text in TEXTS] == TEXTS


def test_characters_need_no_file(tmp_path: Path) -> None:
    CharacterTargets().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def pieces() -> BpeTargets:
    return BpeTargets.train(TEXTS, 270)


def test_pieces_leave_the_blank_alone(pieces: BpeTargets) -> None:
    assert pieces.num_symbols == 271
    for text in TEXTS:
        ids = pieces.encode(text)
        assert BLANK not in ids
        assert all(0 < symbol < pieces.num_symbols for symbol in ids)
        assert pieces.decode(ids) == text
    assert len(pieces.encode("the cat")) < len("the cat")


def test_pieces_come_back_from_a_folder(pieces: BpeTargets, tmp_path: Path) -> None:
    pieces.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    loaded = BpeTargets.load(tmp_path)
    assert loaded.num_symbols == pieces.num_symbols
    assert [loaded.encode(text) for text in TEXTS] == [pieces.encode(text) for text in TEXTS]


def test_too_few_transcripts_for_so_many_pieces_are_refused() -> None:
    with pytest.raises(DataError, match="a vocabulary of 5000 is larger than this corpus allows"):
        BpeTargets.train(TEXTS, 5000)


def test_any_ids_can_be_read(pieces: BpeTargets) -> None:
    """A model may emit any of them, pieces of characters and special tokens too."""
    for symbol in range(1, pieces.num_symbols):
        assert isinstance(pieces.decode([symbol]), str)
    assert pieces.decode([]) == CharacterTargets().decode([]) == ""
