"""How much a sound is like the one it was made from, by measures that others have written; each is used if it is installed.

STOI (Taal et al. 2011) says how much of speech can be understood, 0 to 1; PESQ in its wide band (ITU-T P.862.2) how good a
telephone sounds, 1 to 4.6. Both need the recording beside it, in time to a few milliseconds, and some speech in it: STOI 0.4 s,
PESQ a quarter of a second. What is shorter is not judged, rather than called bad.
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
"""Samples a second of the sounds."""

WORST_PESQ = 1.0

Samples = NDArray[np.float32]


def quality(original: Samples, made: Samples) -> dict[str, float]:
    """The installed measures of `(n,)` samples against `(m,)`, at `RATE` both, that can judge them; what is longer is cut."""
    length = min(len(original), len(made))
    if not original[:length].any():
        return {}
    measures = {"stoi": _stoi, "pesq": _pesq}
    found = {name: measures[name](original[:length], made[:length]) for name in is_installed()}
    return {name: value for name, value in found.items() if value is not None}


def mean_quality(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over the sounds that it could judge."""
    values = {name: [one[name] for one in found if name in one] for name in is_installed()}
    return {name: float(np.mean(each)) for name, each in values.items() if each}


def quality_estimates(found: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """As `mean_quality`, with intervals over sounds."""
    return {name: mean([one[name] for one in found if name in one]) for name in mean_quality(found)}


@cache
def is_installed() -> tuple[str, ...]:
    """The measures that are there."""
    return tuple(name for name, module in (("stoi", "pystoi"), ("pesq", "pesq")) if find_spec(module))


def _stoi(original: Samples, made: Samples) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # else it says 1e-5 where too few frames are loud
        try:
            return float(import_module("pystoi").stoi(original, made, RATE))
        except (RuntimeWarning, np.exceptions.AxisError):
            return None


def _pesq(original: Samples, made: Samples) -> float | None:
    module = import_module("pesq")
    found = float(module.pesq(RATE, original, made, "wb", on_error=module.PesqError.RETURN_VALUES))
    if found == module.PesqError.BUFFER_TOO_SHORT:
        return None
    return found if found > WORST_PESQ else WORST_PESQ  # NaN or below 0 where it hears no speech
