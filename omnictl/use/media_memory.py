"""Images and recordings that were shown a moment ago: a conversation that is sent again and again shows them each time.

What is known goes by the file's bytes; the oldest is forgotten first. For one thread alone.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnictl.features.media_encoders import Raw

MOST_BYTES = 64 * 2**20


@dataclass
class KnownMedia:
    """An image or a recording."""

    raw: Raw
    features: NDArray[Any] | None = None
    """`(S, D)`, once they were asked for."""

    @property
    def num_bytes(self) -> int:
        """What it takes."""
        return self.raw.nbytes + (0 if self.features is None else self.features.nbytes)


class MediaMemory:
    """What one encoder has taken in.

    Args:
        most_bytes: that it keeps, but for the newest, which may be larger.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._known: OrderedDict[bytes, KnownMedia] = OrderedDict()

    def load(self, file: Path, load: Callable[[Path], Raw]) -> KnownMedia:
        """What a file holds.

        Raises:
            DataError: it cannot be read.
        """
        key = sha256(file.read_bytes()).digest()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = KnownMedia(load(file))
        self._known.move_to_end(key)
        while len(self._known) > 1 and sum(each.num_bytes for each in self._known.values()) > self._most:
            self._known.popitem(last=False)
        return known


def features_of(known: KnownMedia, encode: Callable[[Raw], NDArray[Any]]) -> NDArray[Any]:
    """The features `(S, D)` of an image or a recording, made when they are first asked for."""
    if known.features is None:
        known.features = np.asarray(encode(known.raw))
    return known.features
