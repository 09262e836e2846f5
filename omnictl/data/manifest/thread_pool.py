"""Looks at many files side by side."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

from omnictl.errors import DataError

T = TypeVar("T")

_FILES_AT_A_TIME = 32


def measure_in_parallel(files: Sequence[Path], measure: Callable[[Path], T]) -> Iterator[T | DataError]:
    """What `measure` says of each file, or why it cannot, in their order: some at a time side by side on all cores."""

    def measure_some(first: int) -> list[T | DataError]:
        return [_measure_file(file, measure) for file in files[first : first + _FILES_AT_A_TIME]]

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from chain.from_iterable(pool.map(measure_some, range(0, len(files), _FILES_AT_A_TIME)))
    finally:
        pool.shutdown(cancel_futures=True)


def _measure_file(file: Path, measure: Callable[[Path], T]) -> T | DataError:
    try:
        return measure(file)
    except DataError as error:
        return error
