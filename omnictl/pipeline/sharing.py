"""A deadline shared out among things that are done one after the other."""

import time
from collections.abc import Sequence


def share(deadline: float, left: Sequence[float]) -> float:
    """When the first of what is left must have ended, on `time.monotonic`'s clock; what it leaves the next ones have.

    Args:
        deadline: when all must have ended.
        left: in proportion, what each may take.
    """
    now = time.monotonic()
    return now + (deadline - now) * left[0] / sum(left)
