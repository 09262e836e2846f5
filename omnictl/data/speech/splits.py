"""Which recordings are trained on, validated on and kept for the test: by the rules of `splits`, and by speakers.

Where speakers are known, nobody who is heard in the test is heard in training.
"""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from omnictl.config.split import Split
from omnictl.data.manifest.splits import Originals, fill_splits, hash_text, take_by_hash
from omnictl.data.speech.manifest import SpeechRow
from omnictl.errors import DataError

_MOST_NAMES = 10


def split_rows(
    rows: Sequence[SpeechRow],
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    holdout_speakers: Sequence[str] = (),
) -> dict[Split, tuple[SpeechRow, ...]]:
    """The rows of each split, in their order. Rows that name a split keep it; a fraction fills only what no row names.

    Args:
        rows: a corpus; ids are unique.
        val_fraction: share of the training rows to validate on, those with the smallest hashes; None is 0.05.
        test_fraction: share kept for the test before that, by whole speakers if two or more are known for all rows (never whoever
            says more than half), else by hash; None is 0.05, or 0 if any row names a split. Not used with `holdout_speakers`.
        holdout_speakers: all their rows, whatever split they name, are the test; other rows named `test` are left out.

    Raises:
        DataError: nobody of that name speaks.
    """
    named = {row.id: row.split for row in rows}
    if holdout_speakers:
        _check_names(rows, holdout_speakers)
        for row in rows:
            if row.speaker in holdout_speakers:
                named[row.id] = "test"
            elif row.split == "test":
                del named[row.id]
    return fill_splits(rows, named, val_fraction=val_fraction, test_fraction=test_fraction, take_test=_take_test)


def _take_test(rows: Sequence[SpeechRow], share: float, originals: Originals) -> list[SpeechRow]:
    counts = Counter(row.speaker for row in rows if row.speaker is not None)
    if len(counts) < 2 or counts.total() < len(rows):
        return take_by_hash(rows, share, originals)
    taken: set[str] = set()
    # Whoever says more than half is trained on, wherever their hash lies.
    for speaker in sorted(counts, key=lambda name: (2 * counts[name] > len(rows), hash_text(name)))[:-1]:
        if sum(counts[name] for name in taken) >= share * len(rows):
            break
        taken.add(speaker)
    return [row for row in rows if row.speaker in taken]


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
