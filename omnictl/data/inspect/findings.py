"""What a look over a corpus finds: problems, each with its place, and a report of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from omnictl.data.manifest.quarantine import format_rows
from omnictl.errors import DataError

Kind = Literal["speech", "images", "dialogues", "text"]


class Finding(NamedTuple):
    """Something wrong with a recording, an image, a dialogue, a file, or all values of an attribute."""

    kind: str
    """`row`, `audio`, `transcript`, `infeasible_50hz`, `image`, `label`, `file`; of warnings `infeasible_25hz`, `rate`, `long`,
    `duplicate`, `conflict`, `small`, `rare`, `missing`, `reply`."""
    id: str
    """Of the row, the file or the attribute."""
    where: str
    message: str


@dataclass(frozen=True)
class FindingsReport:
    """What was found."""

    source: str
    kind: Kind
    unit: Literal["rows", "files"]
    total: int
    """Rows or files that were looked at, the broken ones among them."""
    summary: Mapping[str, object]
    """Of `omnictl.data.inspect.summary`."""
    broken: Sequence[Finding]
    warnings: Sequence[Finding] = ()

    @property
    def num_broken(self) -> int:
        """Rows or files with one problem or more."""
        return len({problem.id for problem in self.broken})

    def error(self) -> DataError | None:
        """The error if anything is broken."""
        if not self.broken:
            return None
        fixes = {
            "rows": "mend these rows or take them out; training sets them aside, and refuses if they are more than data.max_broken",
            "files": "mend these files and check again: each is read up to the first place that is broken",
        }
        return DataError(
            f"{self.num_broken:,} of {self.total:,} {self.unit} are broken:\n{format_rows(self.broken)}",
            where=self.source,
            fix=fixes[self.unit],
        )
