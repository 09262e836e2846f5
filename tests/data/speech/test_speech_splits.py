import random
from collections import Counter
from pathlib import Path

import pytest

from omnictl.data.speech.manifest import SpeechRow, read_manifest
from omnictl.data.speech.splits import split_rows
from omnictl.errors import DataError

SPLITS = ("train", "val", "test")


def row(name, speaker=None, split=None, audio=None):
    return SpeechRow(name, Path("/corpus") / (audio or name), "text", speaker, split, f"metadata.csv:{name}")


def split(rows, val=None, test=None, holdout=()):
    """The splits; whatever they are, no row is in two of them, and each is in the order of the rows."""
    found = split_rows(rows, val_fraction=val, test_fraction=test, holdout_speakers=holdout)
    assert tuple(found) == SPLITS
    ids = [row.id for row in rows]
    for part in found.values():
        places = [ids.index(row.id) for row in part]
        assert places == sorted(places)
    assert max(Counter(row.id for part in found.values() for row in part).values(), default=1) == 1
    return found


def sizes(found):
    return tuple(len(found[name]) for name in SPLITS)


def ids(found, name):
    return [row.id for row in found[name]]


def numbered(count, **fields):
    return [row(f"{i}.wav", **fields) for i in range(count)]


# No row names a split


def test_shares_by_hash():
    assert sizes(split(numbered(1000))) == (902, 48, 50)  # val is a share of what the test leaves
    assert sizes(split(numbered(1000), val=0.1, test=0.2)) == (720, 80, 200)
    assert sizes(split(numbered(1000), val=0, test=0)) == (1000, 0, 0)
    assert sizes(split(numbered(1000), val=0)) == (950, 0, 50)
    assert sizes(split(numbered(1000), test=0)) == (950, 50, 0)


def test_the_hashes_do_not_change():
    """Golden: another hash would move rows from one run's training into another's test."""
    found = split(numbered(40), val=0.1, test=0.1)
    assert (ids(found, "val"), ids(found, "test")) == (
        ["9.wav", "20.wav", "25.wav", "28.wav"],
        ["1.wav", "5.wav", "26.wav", "30.wav"],
    )
    speakers = [row(f"{name}{i}", name) for name in ("ada", "bob", "cleo", "dan") for i in range(5)]
    assert {row.speaker for row in split(speakers)["test"]} == {"dan"}


def test_the_split_depends_neither_on_order_nor_place():
    rows = numbered(200)
    moved = [row._replace(audio=Path("/elsewhere") / row.id) for row in rows]
    random.Random(1).shuffle(moved)
    one, two = split(rows), split(moved)
    assert {name: set(ids(one, name)) for name in SPLITS} == {name: set(ids(two, name)) for name in SPLITS}


def test_few_rows():
    assert sizes(split([])) == (0, 0, 0)
    assert sizes(split(numbered(1))) == (1, 0, 0)
    assert sizes(split(numbered(2))) == (1, 0, 1)
    assert sizes(split(numbered(3))) == (1, 1, 1)
    assert sizes(split(numbered(2), test=0)) == (1, 1, 0)
    assert sizes(split(numbered(4), val=0.99, test=0)) == (1, 3, 0)  # something is left to train on


def test_copies_of_a_recording_stay_together():
    rows = [row(f"{i % 100}.wav#{i // 100 + 1}", audio=f"{i % 100}.wav") for i in range(300)]
    found = split(rows)
    audio = {name: {row.audio for row in found[name]} for name in SPLITS}
    assert [len(audio[name]) for name in SPLITS] == [90, 5, 5]
    assert not audio["train"] & audio["val"]
    assert not audio["test"] & (audio["train"] | audio["val"])


def test_speakers_of_the_test_are_heard_nowhere_else():
    for seed in range(50):
        draw = random.Random(seed)
        rows = [row(f"{i}", f"speaker {draw.randrange(draw.randint(2, 9))}") for i in range(draw.randint(2, 200))]
        share = draw.choice([0.01, 0.05, 0.3, 0.9])
        found = split(rows, test=share)
        speakers = {name: {row.speaker for row in found[name]} for name in SPLITS}
        if len({row.speaker for row in rows}) < 2:
            continue
        assert found["test"]
        assert found["train"]
        assert not speakers["test"] & (speakers["train"] | speakers["val"])
        counts = Counter(row.speaker for row in found["test"])
        assert len(found["test"]) >= share * len(rows) or len(counts) == len({row.speaker for row in rows}) - 1
        assert len(found["test"]) - max(counts.values()) < share * len(rows)  # no more speakers than it takes


@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice"), ("alice", "bob", "carol")])
def test_who_says_more_than_half_is_trained_on(names):
    """Whatever the hash: Alice's comes before Bob's."""
    rows = [row(f"{names[0]}{i}", names[0]) for i in range(1000)]
    rows += [row(f"{name}{i}", name) for name in names[1:] for i in range(20)]
    found = split(rows)
    assert {row.speaker for row in found["train"]} >= {names[0]}
    assert {row.speaker for row in found["test"]} == set(names[1:])


@pytest.mark.parametrize("speakers", [["ann"] * 100, [None] * 100, ["ann", "ben"] * 49 + ["ann", None]])
def test_by_hash_where_not_all_speakers_are_known(speakers):
    rows = [row(f"{i}.wav", speaker) for i, speaker in enumerate(speakers)]
    assert ids(split(rows), "test") == ids(split(numbered(100)), "test")


# Rows name their split


def test_named_splits_are_kept():
    rows = [row("a", split="test"), row("b", split="val"), row("c", split="train"), row("d")]
    for val, test in ((None, None), (0, 0), (0.5, 0.5)):
        found = split(rows, val=val, test=test)
        assert [ids(found, name) for name in SPLITS] == [["c", "d"], ["b"], ["a"]]


def test_val_is_taken_from_train_where_no_row_names_it():
    rows = [*numbered(100, split="train"), *(row(f"t{i}", split="test") for i in range(10))]
    assert sizes(split(rows)) == (95, 5, 10)
    assert sizes(split(rows, val=0.2)) == (80, 20, 10)
    assert sizes(split(rows, val=0)) == (100, 0, 10)


def test_no_test_rows_are_taken_unless_asked_for():
    rows = [*numbered(100), row("v", split="val")]
    assert sizes(split(rows)) == (100, 1, 0)
    assert sizes(split(rows, test=0.1)) == (90, 1, 10)
    with_speakers = [row(f"{i}", f"speaker {i % 4}", "train") for i in range(100)]
    found = split(with_speakers, test=0.1)
    assert sizes(found) == (71, 4, 25)
    assert len({row.speaker for row in found["test"]}) == 1


# Held-out speakers


def test_holdout_speakers_are_the_test():
    rows = [
        row("a", "theo", "train"),
        row("b", "theo", "val"),
        row("c", "theo", "test"),
        row("d", "lucas", "test"),
        row("e", "lucas", "train"),
        row("f", "lucas", "val"),
        row("g", None),
    ]
    for test in (None, 0, 0.5):
        found = split(rows, test=test, holdout=["theo"])
        assert [ids(found, name) for name in SPLITS] == [["e", "g"], ["f"], ["a", "b", "c"]]
    assert [ids(split(rows, holdout=["theo", "lucas"]), name) for name in SPLITS] == [["g"], [], list("abcdef")]


def test_val_is_taken_from_those_who_are_not_held_out():
    rows = [row(f"{i}", "theo" if i % 2 else "lucas") for i in range(100)]
    found = split(rows, holdout=["theo"])
    assert sizes(found) == (48, 2, 50)
    assert {row.speaker for row in found["val"]} == {"lucas"}


@pytest.mark.parametrize(
    ("speakers", "wanted", "message", "fix"),
    [
        (["theo", "lucas"], ["teo"], "no recording of 'teo'", "did you mean 'theo'?"),
        (
            ["Theo", "Thea", "lucas"],
            ["theo", "lucsa"],
            "no recording of 'theo', 'lucsa'",
            "did you mean 'Theo' or 'Thea' or 'lucas'?",
        ),
        (["theo", "lucas"], ["lucas", "x"], "no recording of 'x'", "the speakers are 'lucas', 'theo'"),
        (
            list("abcdefghijklm"),
            ["nobody"],
            "no recording of 'nobody'",
            "the speakers are 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j' and 3 more",
        ),
        (
            [None],
            ["theo"],
            "no recording of 'theo'",
            "no row names its speaker: give the manifest a column 'speaker', or leave data.holdout_speakers out",
        ),
    ],
)
def test_unknown_speaker(speakers, wanted, message, fix):
    with pytest.raises(DataError) as error:
        split([row(f"{i}", speaker) for i, speaker in enumerate(speakers)], holdout=wanted)
    assert (error.value.message, error.value.where, error.value.fix) == (message, "data.holdout_speakers", fix)


# Real data


def test_real_splits(test_data):
    rows = {name: read_manifest(test_data / name / "metadata.csv").rows for name in ("fsdd", "kathleen", "speech_bits")}
    assert sizes(split(rows["fsdd"])) == (2565, 135, 300)
    assert sizes(split(rows["kathleen"])) == (1472, 77, 71)
    bits = split(rows["speech_bits"])
    assert not {row.speaker for row in bits["test"]} & {row.speaker for row in (*bits["train"], *bits["val"])}
    theo = split(rows["fsdd"], holdout=["theo"])
    assert sizes(theo) == (2138, 112, 500)
    assert {row.speaker for row in theo["test"]} == {"theo"}
