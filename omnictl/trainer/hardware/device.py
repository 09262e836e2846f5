"""The device to train on: choosing it, waiting for it, its memory, and the heap of a CPU."""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
import torch

from omnictl.errors import UsageError


def choose_device(requested: str) -> torch.device:
    """Resolve `auto`, `cpu`, `cuda:N` or `mps`.

    Raises:
        UsageError: no such device here.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise UsageError(f"{requested!r} is not a device", where="--device", fix="use auto, cpu, cuda, cuda:N or mps") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, 0):
        raise UsageError(
            f"there is no device {requested!r} here (GPUs found: {torch.cuda.device_count()})",
            where="--device",
            fix="use --device auto or --device cpu",
        )
    return device


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has finished its work; on other devices it is already finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: allocated on the GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory(device: torch.device) -> int:
    """Let `peak_memory` count anew; returns the bytes that are taken now. Only Linux and GPUs can forget an earlier peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    _forget_peak()
    return int(psutil.Process().memory_info().rss)


class MemoryRise:
    """A context that finds by how many bytes the memory of this process rises at most: allocated on a GPU, else resident.

    Only Linux can forget an earlier peak; elsewhere a rise below it is not seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.bytes = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            _give_back_freed_memory()
            _forget_peak()
            self._before = psutil.Process().memory_info().rss
        return self

    def __exit__(self, *ending: object) -> None:
        peak = peak_memory(self._device) if self._device.type == "cuda" or sys.platform != "linux" else _resident_peak()
        self.bytes = max(0, peak - self._before)


def _give_back_freed_memory() -> None:
    """Return glibc's unused memory to the system; it would hide a rise."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _forget_peak() -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # a container may not allow it
            Path("/proc/self/clear_refs").write_text("5")


def _resident_peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Switches of glibc's heap, as malloc.h numbers them."""

GLIBC_THRESHOLD = 2**17
"""Bytes from which on a block is a mapping of its own, as glibc begins; with 1 MiB, smaller ones lay about (the codec's)."""


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks instead of handing them back to the system (elsewhere: nothing).

    A training step frees and asks for the same large activations again and again; by default each is a fresh mapping
    whose pages the kernel zeroes on first touch. Keeping them made SwiGLU's forward and backward 3.6 times faster.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(MMAP_MAX, 0)


def return_freed_memory() -> None:
    """Tell glibc to hand larger blocks back as soon as they are freed (elsewhere: nothing): slower, but nothing lies about."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(MMAP_MAX, 2**16)
        libc.mallopt(MMAP_THRESHOLD, GLIBC_THRESHOLD)
        libc.mallopt(TRIM_THRESHOLD, GLIBC_THRESHOLD)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it has switches for its heap: musl and other systems' have none."""
    if sys.platform == "linux":
        with suppress(OSError):
            return ctypes.CDLL("libc.so.6")
    return None
