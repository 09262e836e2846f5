"""Which recordings are trained on, validated on and kept for the test.

A pure function of the rows: by hash and not by shuffling, so that a corpus is split alike wherever it lies, and a row more
moves few others. Where speakers are known, nobody who is heard in the test is heard in training.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from omnictl.data.manifest import SpeechRow
from omnictl.data.text_files import SPLITS, Split
from omnictl.errors import DataError

DEFAULT_FRACTION = 0.05
_MOST_NAMES = 10


def split_rows(
    rows: Sequence[SpeechRow],
    *,
    val_fraction: float | None,
    test_fraction: float | None,
    holdout_speakers: Sequence[str],
) -> dict[Split, tuple[SpeechRow, ...]]:
    """The rows of each split, in their order. Rows that name a split keep it; a fraction fills only what no row names.

    Args:
        rows: a corpus; ids are unique.
        val_fraction: share of the training rows to validate on, those with the smallest hashes; None is 0.05.
        test_fraction: share kept for the test before that, by whole speakers if two or more are known for all rows, else by
            hash; None is 0.05, or 0 if any row names a split. Not used with `holdout_speakers`.
        holdout_speakers: all their rows, whatever split they name, are the test; other rows named `test` are left out.

    Raises:
        DataError: nobody of that name speaks.
    """
    assigned: dict[str, Split] = {row.id: row.split or "train" for row in rows}
    originals = _originals(rows)
    if holdout_speakers:
        _check_names(rows, holdout_speakers)
        for row in rows:
            if row.speaker in holdout_speakers:
                assigned[row.id] = "test"
            elif row.split == "test":
                del assigned[row.id]
    elif "test" not in assigned.values():
        default = 0.0 if any(row.split for row in rows) else DEFAULT_FRACTION
        train = [row for row in rows if assigned[row.id] == "train"]
        for row in _take_test(train, default if test_fraction is None else test_fraction, originals):
            assigned[row.id] = "test"
    if "val" not in assigned.values():
        train = [row for row in rows if assigned.get(row.id) == "train"]
        for row in _take_by_hash(train, DEFAULT_FRACTION if val_fraction is None else val_fraction, originals):
            assigned[row.id] = "val"
    return {split: tuple(row for row in rows if assigned.get(row.id) == split) for split in SPLITS}


def _originals(rows: Sequence[SpeechRow]) -> dict[Path, str]:
    """The first id of each audio file: its copies go where it goes, or what is trained on would be tested on."""
    originals: dict[Path, str] = {}
    for row in rows:
        originals.setdefault(row.audio, row.id)
    return originals


def _take_test(rows: Sequence[SpeechRow], share: float, originals: Mapping[Path, str]) -> list[SpeechRow]:
    counts = Counter(row.speaker for row in rows if row.speaker is not None)
    if len(counts) < 2 or counts.total() < len(rows):
        return _take_by_hash(rows, share, originals)
    taken: set[str] = set()
    for speaker in sorted(counts, key=_hash)[:-1]:
        if sum(counts[name] for name in taken) >= share * len(rows):
            break
        taken.add(speaker)
    return [row for row in rows if row.speaker in taken]


def _take_by_hash(rows: Sequence[SpeechRow], share: float, originals: Mapping[Path, str]) -> list[SpeechRow]:
    """The share of the audio files with the smallest hashes; of two or more at least one, and never all."""
    hashes = [_hash(originals[row.audio]) for row in rows]
    different = sorted(set(hashes))
    if share == 0 or len(different) < 2:
        return []
    num_taken = min(max(1, round(len(different) * share)), len(different) - 1)
    return [row for row, value in zip(rows, hashes, strict=True) if value < different[num_taken]]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _check_names(rows: Sequence[SpeechRow], wanted: Sequence[str]) -> None:
    speakers = sorted({row.speaker for row in rows if row.speaker is not None})
    by_lower = {name.lower(): name for name in speakers}
    unknown = [name for name in wanted if name not in speakers]
    if not unknown:
        return
    near = dict.fromkeys(by_lower[other] for name in unknown for other in get_close_matches(name.lower(), by_lower))
    if near:
        fix = f"did you mean {' or '.join(map(repr, near))}?"
    elif speakers:
        others = f" and {len(speakers) - _MOST_NAMES} more" if len(speakers) > _MOST_NAMES else ""
        fix = f"the speakers are {', '.join(map(repr, speakers[:_MOST_NAMES]))}{others}"
    else:
        fix = "no row names its speaker: give the manifest a column 'speaker', or leave data.holdout_speakers out"
    raise DataError(f"no recording of {', '.join(map(repr, unknown))}", where="data.holdout_speakers", fix=fix)
