"""Training in several processes: each one's share of a step, and how their weights stay equal.

`torchrun` starts the processes, of one host or of many, and says in each one's environment which it is. Every process takes a
share of each batch's examples; once a step, the sums of the loss and of its gradient are added up over all processes and divided by
the count over all of them, so that any number of them takes the same step. Weights are the same everywhere and never sent again.

    torchrun --nproc-per-node 2 -m omnictl pretrain --preset small

Messages about a step (counts, signals) are small objects that go through gloo; tensors go where they lie, through NCCL on a GPU.
Left out on purpose: hiding the sum of gradients behind the backward pass. Its order would differ where one process's examples use
other parts of a model than another's (an image here, a recording there); docs/several_processes.md says what it costs.
"""

import datetime
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from omnictl.errors import OmniError
from omnictl.processes import number_of_processes

PATIENCE = datetime.timedelta(hours=12)
"""How long a process waits for the others: one of them may be preparing data for all."""

BUCKET = 2**25
"""Bytes that are summed up in one message, unless a single tensor is larger."""

T = TypeVar("T")
Name = TypeVar("Name")
Example = TypeVar("Example")


class FailedElsewhere(OmniError):
    """Another process of the same training failed, and has said why."""

    kind = "elsewhere"


class ProcessGroup:
    """The processes that train together, seen from one of them; by itself it is the only one.

    Args:
        rank: which process this is, from 0.
        size: how many there are.
        local_size: how many of them are on this host and share its memory.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1) -> None:
        self.rank, self.size, self.local_size = rank, size, local_size

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, ids: Sequence[Example]) -> Sequence[Example]:
        """This process's part of a batch; all parts, by rank, one after the other are the batch."""
        return ids[len(ids) * self.rank // self.size : len(ids) * (self.rank + 1) // self.size]

    def first(self, make: Callable[[], T]) -> T:
        """Return what the leading process makes, in every process.

        Raises:
            FailedElsewhere: it failed; in the leading process itself, what it raised.
        """
        if self.size == 1:
            return make()
        if not self.is_main:
            result, failed = self._broadcast(None, failed=False)
            if failed:
                raise _elsewhere()
            return result  # type: ignore[return-value]
        try:
            result = make()
        except BaseException:
            self._broadcast(None, failed=True)
            raise
        self._broadcast(result, failed=False)
        return result

    def begin_first(self, begin: Callable[[], T], name: Callable[[T], Name], follow: Callable[[Name], T]) -> T:
        """Begin something in the leading process and let the others join it by its name; raises as `first`."""
        begun: list[T] = []

        def lead() -> Name:
            begun.append(begin())
            return name(begun[0])

        shared_name = self.first(lead)
        return begun[0] if begun else follow(shared_name)

    def _broadcast(self, value: object, *, failed: bool) -> tuple[object, bool]:
        box = [(value, failed)]
        with _others_answer():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        with _others_answer():
            dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors over all processes, in place."""
        if self.size == 1:
            return
        with _others_answer():
            for bucket in _buckets(tensors):
                together = torch.cat([tensor.flatten() for tensor in bucket])
                dist.all_reduce(together)
                parts = torch.split(together, [tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))

    def concatenate(self, tensor: Tensor) -> Tensor:
        """Every process's tensor `(n, …)`, one after the other by rank; n may differ."""
        if self.size == 1:
            return tensor
        lengths = self.gather(len(tensor))
        parts = [tensor.new_empty(length, *tensor.shape[1:]) for length in lengths]
        with _others_answer():
            for rank, part in enumerate(parts):
                dist.broadcast(part.copy_(tensor) if rank == self.rank else part, src=rank)
        return torch.cat(parts)

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the leading one's tensors, in place."""
        if self.size == 1:
            return
        with _others_answer():
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type in groups of about `BUCKET` bytes: each message costs half a millisecond, however short it is."""
    for _, same in groupby(tensors, key=lambda tensor: (tensor.device, tensor.dtype)):
        bucket: list[Tensor] = []
        for tensor in same:
            if bucket and sum(held.nbytes for held in bucket) + tensor.nbytes > BUCKET:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


ALONE = ProcessGroup()
"""A process that trains by itself."""


def job() -> str | None:
    """What `torchrun` calls the work that its processes do together, the same when it has to start them again; None without it."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return None if name == "none" else name  # of a launch at a fixed address without a name


def join_world() -> ProcessGroup:
    """The world that `torchrun` started this process in; each process of a host takes a GPU of its own if there are enough."""
    size = number_of_processes()
    if size == 1:
        return ALONE
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    store, rank, _ = next(rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # where the addresses of processes that died still are
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    return ProcessGroup(rank, size, int(os.environ["LOCAL_WORLD_SIZE"]))


@contextmanager
def _others_answer() -> Iterator[None]:
    """Name what torch raises when another process has ended.

    Raises:
        FailedElsewhere: it has.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's are of no class of their own
        if not isinstance(error, dist.DistError) and not re.search("gloo|onnection|peer", str(error)):
            raise
        raise _elsewhere() from error


def _elsewhere() -> FailedElsewhere:
    return FailedElsewhere("another process of this training has ended", fix="see what it said")
