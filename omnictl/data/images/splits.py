"""Which pictures are trained on, validated on and kept for the test: by the rules of `splits`."""

from collections.abc import Sequence

from omnictl.config.split import Split
from omnictl.data.images.manifest import ImageRow
from omnictl.data.manifest.splits import fill_splits


def split_images(
    rows: Sequence[ImageRow], *, val_fraction: float | None, test_fraction: float | None
) -> dict[Split, tuple[ImageRow, ...]]:
    """The rows of each split, in their order. Rows that name a split keep it; a fraction fills only what no row names.

    Args:
        rows: a corpus; ids are unique.
        val_fraction: share of the training pictures to validate on, those with the smallest hashes; None is 0.05.
        test_fraction: share kept for the test before that; None is 0.05, or 0 if any row names a split.
    """
    named = {row.id: row.split for row in rows}
    return fill_splits(rows, named, val_fraction=val_fraction, test_fraction=test_fraction)
