"""Keys and values of several texts that begin and end at different times, each in a slot of its own and as long as it is.

A step reads one token in each of some slots. It computes all slots from the first of these to the last, so that nothing is copied:
what comes of the others is written behind their ends, where the next token that they read takes its place.
Source: Yu et al. 2022 (Orca, iteration-level scheduling). Left out on purpose: pages of a slot (Kwon et al. 2023), for contexts
that are far longer than most texts.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from omnictl.nn.transformer import KVCache, Visibility


class SlotCache:
    """A `Cache` whose rows are the selected slots.

    Args:
        like: an empty cache of one text, as long as a slot.
        slots: how many there are.
    """

    def __init__(self, like: KVCache, slots: int) -> None:
        self.keys = [held.new_zeros(slots, *held.shape[1:]) for held in like.keys]  # (slots, KV, capacity, d) of each layer
        self.values = [torch.zeros_like(held) for held in self.keys]
        self.last: dict[int, Tensor] = {}  # (slots, KV, 1, 2d) of each layer, where attention shifts
        self.lengths = [0] * slots
        self._rows = slice(0, 0)
        self._chosen = torch.zeros(0, dtype=torch.bool)
        self._ends = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def grow(self, slots: int) -> None:
        """Add slots."""
        for layers in (self.keys, self.values):
            layers[:] = [torch.cat([held, held.new_zeros(slots, *held.shape[1:])]) for held in layers]
        self.last = {layer: torch.cat([held, held.new_zeros(slots, *held.shape[1:])]) for layer, held in self.last.items()}
        self.lengths += [0] * slots

    def select(self, slots: Collection[int]) -> range:
        """Read the next position in these slots; returns the rows of the batch, by the slots that they are."""
        rows = range(min(slots), max(slots) + 1)
        device = self.keys[0].device
        self._rows = slice(rows.start, rows.stop)
        self._chosen = torch.tensor([row in slots for row in rows], device=device)
        self._ends = torch.tensor([self.lengths[row] for row in rows], device=device)
        return rows

    @property
    def length(self) -> int:
        """Positions of the longest text in the rows."""
        return max(self.lengths[self._rows])

    def visibility(self, new: int) -> Visibility:
        """Of each row, what it holds and the new position."""
        assert new == 1, "slots are read one position at a time"
        places = torch.arange(self.length + 1, device=self._ends.device)
        return Visibility(causal=False, mask=(places <= self._ends[:, None])[:, None, None])

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put `(B, KV, 1, d)` at the end of each row."""
        held = self.keys[layer][self._rows], self.values[layer][self._rows]
        rows = torch.arange(len(self._ends), device=self._ends.device)
        for all_of_row, new in zip(held, (keys, values), strict=True):
            all_of_row[rows, :, self._ends] = new[:, :, 0]
        stop = self.length + 1
        return held[0][:, :, :stop], held[1][:, :, :stop]

    def swap_last(self, layer: int, both: Tensor) -> Tensor:
        """Of the selected slots; the others keep theirs."""
        held = self.last[layer][self._rows]
        before = held.clone()
        held.copy_(torch.where(self._chosen[:, None, None, None], both, before))
        return before

    def advance(self, new: int) -> None:
        """The selected slots are longer now."""
        for row, chosen in enumerate(self._chosen.tolist(), self._rows.start):
            self.lengths[row] += new * chosen

    def load(self, slot: int, text: KVCache) -> None:
        """Put a text that was read alone into a slot."""
        for held, read in ((self.keys, text.keys), (self.values, text.values)):
            for mine, its in zip(held, read, strict=True):
                mine[slot, :, : text.length] = its[0, :, : text.length]
        for layer, both in text.last.items():
            self.last.setdefault(layer, both.new_zeros(len(self), *both.shape[1:]))[slot] = both[0]
        self.lengths[slot] = text.length

    def unload(self, slot: int, count: int, text: KVCache) -> None:
        """Copy the first positions of a slot into an empty cache of one text."""
        for held, read in ((self.keys, text.keys), (self.values, text.values)):
            for mine, its in zip(held, read, strict=True):
                its[0, :, :count] = mine[slot, :, :count]
        text.length = count
