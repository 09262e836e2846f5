"""What a run's data was: enough to tell whether it is still the same, and what is different if it is not."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from omnictl.config.split import Split


class DataContents(NamedTuple):
    """What a stage's data holds."""

    fingerprint: str
    """SHA-256 over what all rows say and the sizes of their files, whatever place and time these have."""
    examples: Mapping[str, int]
    """That can be used, of the training and the validation split."""
    set_aside: int
    """Rows that cannot."""

    def as_json(self) -> dict[str, Any]:
        """For a run's record."""
        return {"fingerprint": self.fingerprint, "examples": dict(self.examples), "set_aside": self.set_aside}

    def compare(self, earlier: Mapping[str, Any]) -> str:
        """What has become of an earlier record."""
        sizes = {**earlier["examples"], "set aside": earlier["set_aside"]}
        now = {**self.examples, "set aside": self.set_aside}
        changes = [f"{name} {count:,} → {now.get(name, 0):,}" for name, count in sizes.items() if count != now.get(name)]
        return ", ".join(changes) or "as many examples as before, but not the same"


def fingerprint_rows(rows: Iterable[tuple[Split, tuple[object, ...]]]) -> str:
    """SHA-256 over rows, each with its split."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
