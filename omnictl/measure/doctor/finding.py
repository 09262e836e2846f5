"""What the doctor says of one subject."""

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]
"""`warn`: training works, but slower or not with everything. `fail`: it does not."""


class Finding(NamedTuple):
    """One line of the doctor's."""

    subject: str
    level: Level
    message: str
    fix: str | None = None
    """What to do about it; None if all is well."""


def ok(subject: str, message: str) -> Finding:
    """Nothing is wrong."""
    return Finding(subject, "ok", message)


def warn(subject: str, message: str, fix: str) -> Finding:
    """Training works, but slower or not with everything."""
    return Finding(subject, "warn", message, fix)


def fail(subject: str, message: str, fix: str) -> Finding:
    """Training does not work."""
    return Finding(subject, "fail", message, fix)


def size_text(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
