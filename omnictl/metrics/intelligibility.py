"""How much a sound is like the one it was made from, by measures that others have written; each is used if it is installed.

STOI (Taal et al. 2011) says how much of speech can be understood, 0 to 1; PESQ in its wide band (ITU-T P.862.2) how good a
telephone sounds, 1 to 4.6. Both need the recording beside it, in time to a few milliseconds.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples a second of the sounds."""

WORST_PESQ = 1.0

Samples = NDArray[np.float32]


def quality(original: Samples, made: Samples) -> dict[str, float]:
    """The installed measures of `(n,)` samples against `(m,)`, at `RATE` both; what is longer is cut."""
    length = min(len(original), len(made))
    measures = {"stoi": _stoi, "pesq": _pesq}
    return {name: measures[name](original[:length], made[:length]) for name in installed()}


@cache
def installed() -> tuple[str, ...]:
    """The measures that are there."""
    return tuple(name for name, module in (("stoi", "pystoi"), ("pesq", "pesq")) if find_spec(module))


def _stoi(original: Samples, made: Samples) -> float:
    return float(import_module("pystoi").stoi(original, made, RATE))


def _pesq(original: Samples, made: Samples) -> float:
    module = import_module("pesq")
    found = float(module.pesq(RATE, original, made, "wb", on_error=module.PesqError.RETURN_VALUES))
    return max(found, WORST_PESQ)  # below 0 where it hears no speech
