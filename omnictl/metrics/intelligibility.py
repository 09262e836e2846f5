"""How close audio is to its original, by published measures; each is used if its package is installed.

STOI (Taal et al. 2011) measures how much of the speech can be understood, from 0 to 1; wide-band PESQ (ITU-T P.862.2) the quality
over a telephone, from 1 to 4.6. Both need the original, aligned to a few milliseconds, with some speech in it: STOI 0.4 s,
PESQ a quarter of a second. Shorter audio gets no score rather than a bad one.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from omnictl.metrics.intervals import Estimate, mean

RATE = 16_000
"""Samples a second."""

WORST_PESQ = 1.0

Samples = NDArray[np.float32]


def quality(original: Samples, copy: Samples) -> dict[str, float]:
    """The installed measures of `(n,)` samples against `(m,)`, at `RATE` both, that can judge them; what is longer is cut."""
    length = min(len(original), len(copy))
    if not original[:length].any():
        return {}
    measures = {"stoi": _stoi, "pesq": _pesq}
    values = {name: measures[name](original[:length], copy[:length]) for name in installed_measures()}
    return {name: value for name, value in values.items() if value is not None}


def quality_estimates(qualities: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each measure over the recordings that it could judge."""
    by_measure = {name: [quality[name] for quality in qualities if name in quality] for name in installed_measures()}
    return {name: mean(values) for name, values in by_measure.items() if values}


@cache
def installed_measures() -> tuple[str, ...]:
    """The names of the measures whose packages are installed."""
    return tuple(name for name, module in (("stoi", "pystoi"), ("pesq", "pesq")) if find_spec(module))


def _stoi(original: Samples, copy: Samples) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # else it says 1e-5 where too few frames are loud
        try:
            return float(import_module("pystoi").stoi(original, copy, RATE))
        except (RuntimeWarning, np.exceptions.AxisError):
            return None


def _pesq(original: Samples, copy: Samples) -> float | None:
    module = import_module("pesq")
    score = float(module.pesq(RATE, original, copy, "wb", on_error=module.PesqError.RETURN_VALUES))
    if score == module.PesqError.BUFFER_TOO_SHORT:
        return None
    return score if score > WORST_PESQ else WORST_PESQ  # NaN or below 0 where it hears no speech
