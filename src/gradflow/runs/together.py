"""What the processes of one run say to each other. Each method that is a collective must be called by all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")
MEET = timedelta(minutes=30)  # a node may start late, and rank 0 sees to the data first
FAULT = "fault"
_meetings = itertools.count()


class Together:
    """One process's end of the line.

    Flags and Python objects go over gloo, on CPUs, so that asking never waits for a GPU; with one process nothing is
    sent at all.

    Args:
        rank, world: this process and how many there are.
        local: its place among those of this machine.
        store: where a fault is told; None for one process.
    """

    def __init__(self, rank: int = 0, world: int = 1, local: int = 0, store: Store | None = None) -> None:
        self.rank, self.world, self.local, self._store = rank, world, local, store

    @property
    def leads(self) -> bool:
        """Whether this is the process that claims and writes the record."""
        return self.rank == 0

    def any(self, wish: bool) -> bool:
        """Whether some process has a wish. A collective."""
        if self.world == 1:
            return wish
        flag = torch.tensor([int(wish)])
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def first(self, value: T) -> T:
        """Rank 0's value. A collective."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def everyone(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks. A collective."""
        held = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(held, value)
        return held

    def interleaved(self, share: Tensor, dim: int = 0) -> Tensor:
        """The whole of what is shared out as tasks share out a batch: rank r of n has r, r + n, r + 2n, … A collective.

        Args:
            share: of one shape everywhere.
            dim: along which it was shared out.
        """
        if self.world == 1:
            return share
        shares = [torch.empty_like(share) for _ in range(self.world)]
        dist.all_gather(shares, share.contiguous())
        return torch.stack(shares, dim + 1).flatten(dim, dim + 1)

    def tell_fault(self, traceback: str) -> None:
        """Leave word of what ended this process, for the others, whose own faults will only be that it is gone."""
        if self._store is not None:
            words = traceback if self.rank == 0 else f"on rank {self.rank} of {self.world}:\n{traceback}"
            with suppress(RuntimeError):  # who keeps the store may be gone
                self._store.compare_set(FAULT, "", words)

    def first_fault(self) -> str | None:
        """The first that was told of."""
        with suppress(RuntimeError):
            if self._store is not None and self._store.check([FAULT]):
                return str(self._store.get(FAULT).decode())
        return None


ALONE = Together()


@contextmanager
def joined(store: Store, rank: int, world: int, local: int, on_gpus: bool) -> Iterator[Together]:
    """Meet the other processes of a run.

    Args:
        store: that all of them reach. Of several runs over one store, each process joins in the same order.
        rank, world, local: as for `Together`.
        on_gpus: gradients go over NCCL.

    Raises:
        RuntimeError: if they do not come.
    """
    own = PrefixStore(f"gradflow/{next(_meetings)}", store)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", store=own, rank=rank, world_size=world)
    try:
        yield Together(rank, world, local, own)
    finally:
        dist.destroy_process_group()  # whoever waits for this process, which has failed, hears that it is gone


@cache
def meeting_place(address: str, rank: int, world: int) -> Store:
    """The store of processes that were started from outside, at the address that `launched` gives.

    One for all runs of a process: rank 0 could not open another at the same address before the last has gone.

    Raises:
        RuntimeError: if rank 0 cannot open it, or cannot be reached.
    """
    where = f"{address}?rank={rank}&world_size={world}"
    store: Store = next(rendezvous(where, timeout=MEET))[0]
    return store
