"""Is there room: memory, disk, and the memory that processes share."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from omnictl.measure.doctor.finding import Finding, fail, ok, size_text, warn

MEMORY, SHARED = "memory", "shared memory"

TINY_BYTES = 5 * 10**9
"""That the preset `tiny` takes at most, in stage E."""

LEAST_BYTES = 10**9
"""Of memory: below that not even small stages fit beside torch."""

WANTED_DISK, LEAST_DISK = 2 * 10**9, 200 * 10**6
"""Free on a disk: what the preset `tiny` writes into the cache, and below which a first checkpoint may not fit."""

PROBE_BYTES, PROBES, SLOW_DISK = 8 * 2**20, 3, 20e6
"""What is written to time a disk, how often (the best counts), and bytes a second below which saving a checkpoint is felt."""

WORKERS_BYTES = 256 * 2**20
"""Of shared memory that worker processes want."""

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "glusterfs"}

IN_MEMORY = {"tmpfs", "ramfs"}


class DiskFacts(NamedTuple):
    """A folder and the disk that it is on, or would be."""

    subject: str
    path: Path
    free_bytes: int
    file_system: str
    error: str | None
    """Why nothing can be written there."""
    bytes_per_second: float | None
    """None if that was not tried."""
    option: str
    """How to choose another folder."""


def check_memory(free: int, device: torch.device) -> Finding:
    """Whether the memory that is free is enough for a first training.

    Args:
        free: bytes, as `trainer.plan.free_memory` gives them.
        device: whose memory it is.
    """
    where = "on the GPU" if device.type == "cuda" else "in memory"
    more = "stop other programs on the GPU" if device.type == "cuda" else "close other programs, or give the container more"
    if free < LEAST_BYTES:
        return fail(MEMORY, f"{size_text(free)} are free {where}, which is too little to train in", more)
    if free < TINY_BYTES:
        message = f"{size_text(free)} are free {where}: the largest stage of the preset tiny wants {size_text(TINY_BYTES)}"
        return warn(MEMORY, message, f"{more}; `omnictl plan all` says what fits")
    return ok(MEMORY, f"{size_text(free)} are free {where}")


def read_disk_facts(subject: str, path: Path, option: str, *, measured: bool) -> DiskFacts:
    """Look at the disk of a folder that may not exist yet, and perhaps write a little there for a moment."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    free, system = shutil.disk_usage(place).free, _file_system(place)
    error = _why_not_writable(place)
    speed = None
    if error is None and measured and free > LEAST_DISK:
        try:
            speed = _time_disk(place)
        except OSError as refusal:
            error = refusal.strerror
    return DiskFacts(subject, path, free, system, error, speed, option)


def check_disk(facts: DiskFacts) -> Finding:
    """Whether a folder can be written to, with room and speed enough."""
    elsewhere = f"choose another folder with {facts.option}"
    room = f"{size_text(facts.free_bytes)} free"
    if facts.error is not None:
        return fail(facts.subject, f"cannot write to {facts.path}: {facts.error}", f"make it writable, or {elsewhere}")
    if facts.free_bytes < LEAST_DISK:
        return fail(facts.subject, f"{facts.path} has {room}, which a first training fills", f"free some space, or {elsewhere}")
    if facts.free_bytes < WANTED_DISK:
        message = f"{facts.path} has {room}: the preset tiny wants {size_text(WANTED_DISK)}"
        return warn(facts.subject, message, f"free some space, or {elsewhere}")
    if facts.file_system in NETWORK:
        message = f"{facts.path} is on a network ({facts.file_system}), where locks may not hold and small files are slow"
        return warn(facts.subject, message, f"{elsewhere}, on a disk of this machine")
    if facts.file_system in IN_MEMORY:
        message = f"{facts.path} is in memory ({facts.file_system}): it takes room from training and is gone after a restart"
        return warn(facts.subject, message, f"{elsewhere}, on a disk")
    if facts.bytes_per_second is not None and facts.bytes_per_second < SLOW_DISK:
        message = f"{facts.path} takes {facts.bytes_per_second / 1e6:.1f} MB/s, so saving takes long"
        return warn(facts.subject, message, f"{elsewhere}, or save less often: --set train.save_every=1000")
    speed = "" if facts.bytes_per_second is None else f", {facts.bytes_per_second / 1e6:.0f} MB/s"
    return ok(facts.subject, f"{room} for {facts.path}{speed}")


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding | None:
    """Whether worker processes can hand over batches; None where the system has no such folder."""
    if not folder.is_dir():
        return None
    free = shutil.disk_usage(folder).free
    if free < WORKERS_BYTES:
        message = f"{size_text(free)} in {folder}: too little for batches made by worker processes (train.runtime.workers)"
        return warn(SHARED, message, "start the container with --shm-size 1g, or leave train.runtime.workers at 0")
    return ok(SHARED, f"{size_text(free)} for batches made by worker processes")


def _why_not_writable(place: Path) -> str | None:
    return None if place.is_dir() and os.access(place, os.W_OK | os.X_OK) else _reason(place)


def _reason(place: Path) -> str:
    if not place.is_dir():
        return f"{place} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return f"{place} may not be written to"
    except OSError as error:
        return error.strerror or str(error)


def _time_disk(place: Path) -> float:
    """Bytes a second that reach the disk; what is written is removed."""
    block = os.urandom(PROBE_BYTES)
    seconds = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(PROBES):
            began = time.perf_counter()
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return PROBE_BYTES / min(seconds)


def _file_system(place: Path) -> str:
    """The type of the file system that a folder is on; empty if it cannot be told."""
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""
