"""Rows that cannot be used are set aside with their reasons; too many of them, and training refuses."""

from collections.abc import Sequence
from typing import Protocol

from omnictl.data.manifest.rows import BrokenRow
from omnictl.errors import DataError

SHOWN_ROWS = 5


def refuse_too_many(broken: Sequence[BrokenRow], *, usable: int, allowed: float, source: str) -> None:
    """Refuse training data of which too much is set aside, or nothing is left.

    Args:
        broken: the rows that are, each with its reason.
        usable: how many are left.
        allowed: share of all rows.
        source: what the data is called.

    Raises:
        DataError: more than the share.
    """
    total = usable + len(broken)
    if usable > 0 and len(broken) <= allowed * total:
        return
    raise DataError(
        f"{len(broken)} of {total} rows cannot be trained on, allowed are {allowed:.0%}:\n{format_rows(broken)}",
        where=source,
        fix=f"see all of them with `omnictl data check {source}`; mend or remove them, or --set data.max_broken=1",
    )


class RowProblem(Protocol):
    """A row, or something else that is wrong in a place."""

    @property
    def where(self) -> str:
        """File and line, or what there is of a place."""
        ...

    @property
    def message(self) -> str:
        """What is wrong."""
        ...


def format_rows(broken: Sequence[RowProblem]) -> str:
    """The first rows, one a line."""
    more = [f"… and {len(broken) - SHOWN_ROWS} more"] if len(broken) > SHOWN_ROWS else []
    return "\n".join([*(f"{row.where}: {row.message}" for row in broken[:SHOWN_ROWS]), *more])
