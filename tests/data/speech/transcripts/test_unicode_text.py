import pytest

from omnictl.data.speech.transcripts.targets import BpeTargets, CharacterTargets, FoundCharacters, ReadAloud
from omnictl.data.speech.transcripts.unicode_text import normalise
from omnictl.errors import CheckpointError, DataError

TEXTS = ["Fünf Äpfel – und „Brötchen“!", "Привет, мир.", "Das ist’s: Straße 7."]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Fünf Äpfel – und „Brötchen“!", "fünf äpfel und brötchen"),
        ("STRASSE, Straße", "strasse straße"),
        ("Fu\u0308nf", "fünf"),  # another normal form is the same word
        ("ﬁnden Ⅳ", "finden iv"),
        ("Привет,\tмир…", "привет мир"),
        ("Das ist’s 'so'", "das ist's so"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),  # marks of vowels belong to their letters
        ("مرحبا\u200fبالعالم", "مرحبابالعالم"),
        ("你好,世界。", "你好 世界"),
        ("well-known 3.5", "well known 3 5"),
        ("?!", ""),
    ],
)
def test_unicode_decides(text, spelled):
    assert normalise(text) == spelled
    assert normalise(spelled) == spelled


def test_characters_are_those_of_the_data(tmp_path):
    targets = FoundCharacters.find(TEXTS)
    assert targets.num_symbols == 1 + len(set("fünf äpfel und brötchenпривет мирdas ist's straße 7"))
    for text in TEXTS:
        ids = targets.encode(targets.normalise(text))
        assert 0 not in ids
        assert targets.decode(ids) == normalise(text)
    targets.save(tmp_path)
    assert FoundCharacters.load(tmp_path).characters == targets.characters


def test_what_training_does_not_have_is_named():
    targets = FoundCharacters.find(TEXTS)
    assert targets.find_flaw("Fünf Strassen") is None
    assert targets.find_flaw("Quiz") == "the transcript has characters that no training transcript has: qz"
    assert targets.find_flaw("…") == "the transcript '…' has no words"


def test_transcripts_without_letters():
    with pytest.raises(DataError, match="the training transcripts have no letters"):
        FoundCharacters.find(["…", "?"])


@pytest.mark.parametrize("content", [None, "[1]", '""', '"aa"', "{"])
def test_a_file_of_characters_that_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "characters.json").write_text(content)
    with pytest.raises(CheckpointError) as error:
        FoundCharacters.load(tmp_path)
    assert error.value.where == str(tmp_path / "characters.json")


@pytest.mark.parametrize("targets", [CharacterTargets(), ReadAloud(), BpeTargets.train(["the cat sat on the mat"] * 9, 270)])
def test_others_spell_english_alone(targets):
    assert targets.find_flaw("Straße") is None
    hint = " (targets.kind=chars spells any)" if isinstance(targets, CharacterTargets) else ""
    assert targets.find_flaw("мир") == f"the transcript has characters outside the alphabet: имр{hint}"
