"""The features of a split's images and recordings, as they reach the model."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from omnictl.data.dialogues.chat_template import Grids, Media, Tokens
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.errors import DataError


class FeatureSource(Protocol):
    """The images or the recordings of a split, by number, as they reach the model."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of features, of what has them."""
        ...

    def count(self, number: int) -> int:
        """Features of one; 0 if it cannot be read."""
        ...

    def value(self, number: int) -> Any:
        """These features, `(n, width)`, or what an encoder makes them of, or what they are made of instead."""
        ...

    def num_features(self, value: Any) -> int:
        """Features that a value is, or will be."""
        ...

    def flaw(self, number: int) -> str | None:
        """Why one cannot be read, if it cannot."""
        ...


@dataclass(frozen=True)
class MediaFeatures:
    """All images and recordings of a split."""

    sources: Mapping[MediaKind, FeatureSource]

    @property
    def grids(self) -> Grids:
        """Rows and columns of the features of each kind."""
        return {kind: source.grid for kind, source in self.sources.items()}

    def count(self, media: Media) -> int:
        """Features of one."""
        return self.sources[media.kind].count(media.number)

    def flaw(self, media: Media) -> str | None:
        """Why it cannot be read, if it cannot."""
        return self.sources[media.kind].flaw(media.number)

    def values(self, encoded: Tokens, where: str) -> Iterator[tuple[Media, Any]]:
        """What takes the places of a dialogue's media, in order.

        Raises:
            DataError: an image or a recording has not as many features as places were kept for it.
        """
        numbers: Counter[MediaKind] = Counter()
        for media in encoded.media:
            numbers[media.kind] += 1
            source = self.sources[media.kind]
            value, places = source.value(media.number), source.count(media.number)
            if (num_features := source.num_features(value)) != places:
                raise DataError(
                    f"{media.kind} {numbers[media.kind]} has {num_features} features, {places} places were kept for it",
                    where=where,
                    fix="its file has changed since training began, or the cache is damaged: delete the cache and start again",
                )
            yield media, value
