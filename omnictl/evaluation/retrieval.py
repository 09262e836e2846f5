"""How well images find their captions, captions their images, and images their class by what captions say of it (zero-shot).

Source: Radford et al. 2021 (CLIP). `recall_at_k` is of images that look for captions; the other direction is named so.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnictl.data.images.corpus import ImageRecord
from omnictl.evaluation.vision import compared_with_chance
from omnictl.metrics.classification import chance_recall_at, recall_at
from omnictl.metrics.intervals import certain, rate_from
from omnictl.metrics.shuffled_control import shuffled_inputs
from omnictl.trainer.stage import Report

RECALLS = (1, 5, 10)
HEADLINE = "recall_at_5"
_K = 5

Float32 = NDArray[np.float32]


class SharedSpace(NamedTuple):
    """Images and their captions in one space, rows of unit length."""

    rows: Sequence[ImageRecord]
    images: Float32  # (N, D)
    captions: Float32  # (N, D)

    @property
    def similarity(self) -> Float32:
        """`(N, N)` of each image to each caption."""
        return self.images @ self.captions.T

    @property
    def relevant(self) -> NDArray[np.bool_]:
        """`(N, N)`: a caption is right for an image if it is word for word its own."""
        texts = np.unique([row.caption or "" for row in self.rows], return_inverse=True)[1]
        right: NDArray[np.bool_] = texts[:, None] == texts[None, :]
        return right


def retrieval_rates(space: SharedSpace) -> dict[str, float]:
    """Recall at each of `RECALLS`, in both directions."""
    similarity, relevant = space.similarity, space.relevant
    rates = {f"recall_at_{k}": recall_at(similarity, relevant, k) for k in (_K, *(k for k in RECALLS if k != _K))}
    return rates | {f"recall_at_{k}_captions": recall_at(similarity.T, relevant.T, k) for k in RECALLS}


def retrieval_report(space: SharedSpace, metrics: Mapping[str, float], by_class: Report | None) -> Report:
    """The report of a split, with what the zero-shot classes say if there are any.

    The control looks for captions with other images; its floor is what a random order would find.
    """
    similarity, relevant = space.similarity, space.relevant
    shuffled = similarity[shuffled_inputs(len(similarity), seed=0)]
    controls = {
        f"{HEADLINE}_shuffled": recall_at(shuffled, relevant, _K),
        f"{HEADLINE}_shuffled_floor": chance_recall_at(relevant, _K),
    }
    count = len(space.rows)
    estimates = {name: rate_from(rate, count) for name, rate in retrieval_rates(space).items()}
    shuffled_rate, chance = (
        rate_from(controls[f"{HEADLINE}_shuffled"], count),
        certain(controls[f"{HEADLINE}_shuffled_floor"], count),
    )
    estimates[HEADLINE] = compared_with_chance(estimates[HEADLINE], shuffled_rate, chance, f"{HEADLINE}_shuffled")
    best = similarity.argmax(1)
    predictions = [
        {"id": row.id, "task": "retrieve", "reference": row.caption, "prediction": space.rows[index].caption}
        for row, index in zip(space.rows, best.tolist(), strict=True)
    ]
    return Report(
        HEADLINE,
        "higher",
        metrics,
        len(space.rows),
        controls=controls | (dict(by_class.controls) if by_class else {}),
        predictions=predictions,
        images=by_class.images if by_class else {},
        estimates={**estimates, **(by_class.estimates if by_class else {})},
    )
