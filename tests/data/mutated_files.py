"""Breaks files at random, and reads them by the hundred in a process whose memory is limited."""

import faulthandler
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 256 << 20
"""Of memory, that reading may take."""
HANGS_AFTER = 60
"""Seconds of one file, after which the process ends itself with a traceback."""


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: bits, bytes, extremes in the header, what is cut, put in, doubled or swapped."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(data)) if draw.random() < 0.5 else draw.randrange(min(len(data), 128))
        length = draw.choice((1, 2, 4, 8, 64, 512))
        change = draw.randrange(7)
        if change == 0:
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        elif change == 1:
            data = data[:at] + draw.randbytes(length) + data[at + length :]
        elif change == 2:
            extreme = draw.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\1")) * draw.choice((1, 2, 4, 8))
            data = data[:at] + extreme + data[at + len(extreme) :]
        elif change == 3:
            data = data[:at] or data
        elif change == 4:
            data = data[:at] + draw.randbytes(length) + data[at:]
        elif change == 5:
            data = data[: at + length] + data[at:]
        else:
            data = data[:at] + data[at + length :] or data
    return data


def limit_memory() -> int:
    """Let the process take `MOST_BYTES` more; returns the kilobytes that it has now."""
    limit = (_kilobytes("VmSize") << 10) + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return _kilobytes("VmRSS")


def peak_bytes(start: int) -> int:
    """Most bytes that were taken since there were `start` kilobytes."""
    return (_kilobytes("VmHWM") - start) << 10


def read_broken(path: Path, count: int, write: Callable[[int], Callable[[], None]]) -> dict[str, object]:
    """A report of many broken files, one after the other at the same path.

    Args:
        path: of them all.
        count: how many.
        write: writes the file of a number; returns what reads it and checks what comes of it.
    """
    from omnictl.errors import DataError

    start = limit_memory()
    slowest, num_read, refusals, failures = 0.0, 0, set(), []
    for number in range(count):
        read = write(number)
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        begun = time.process_time()  # not by the clock: other work on the machine is no fault of the file
        try:
            read()
            num_read += 1
        except DataError as error:
            refusals.add(error.message.removeprefix(str(path))[:30])
        except Exception as error:  # noqa: BLE001  the test names them all
            failures.append(f"{number}: {error!r}")
        slowest = max(slowest, time.process_time() - begun)
    faulthandler.cancel_dump_traceback_later()
    return {
        "files": count,
        "read": num_read,
        "refusals": sorted(refusals),
        "failures": failures,
        "slowest_seconds": slowest,
        "peak_bytes": peak_bytes(start),
    }


def check_report(report: dict, complaints: str, count: int, *, read: float, refusals: float) -> None:
    """No crash, no failure, no hang; more than `read` files were read, and refused with more than `refusals` messages."""
    assert report["exit_code"] == 0, complaints  # negative: a crash; the file that caused it is still in the folder
    assert report["failures"] == []
    assert report["files"] == count
    assert report["read"] > read
    assert len(report["refusals"]) > refusals
    assert report["slowest_seconds"] < 2  # a few ms, for a GIF of many pixels some tenths: this guards against hanging
    assert report["peak_bytes"] < MOST_BYTES


def _kilobytes(key: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])
