"""Several texts written at the same time by one model: each in a slot, and every step reads a token in all that wait for one.

Who asks first for scores that are not there yet computes those of all. So texts begin, end and rest whenever they like, and are
chosen from in their own way. A slot that is free still holds its last text: a prompt that begins like it is read from there on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from omnictl.generate.token_decoder import Prompt
from omnictl.models.thinker import Thinker
from omnictl.nn.slot_cache import SlotCache
from omnictl.nn.step_threads import step_threads
from omnictl.nn.transformer import KVCache


class SlotPool:
    """Slots of one model; for one thread alone.

    Args:
        model: in eval mode.
        slots: how many at first; where more texts are written at once, there will be more.
    """

    def __init__(self, model: Thinker, slots: int) -> None:
        self.model, self._threads, self._step_size = model, step_threads(model), slots
        self._cache = SlotCache(model.new_cache(), slots)
        self._embeddings = self._empty(slots)  # of what each slot holds
        self._readings: dict[int, SlotReading] = {}
        self._ended: list[int] = list(range(slots))  # free slots; those whose text ended longest ago first
        self._unread: dict[int, int] = {}
        self._shifts = [0] * slots

    @torch.inference_mode()
    def open(self, prompt: Prompt, max_tokens: int) -> "SlotReading":
        """Read a prompt.

        Args:
            prompt: one, of at least one position, shorter than the model's context.
            max_tokens: most tokens that will follow; the context's end stops as well.
        """
        _, length, _ = prompt.embeddings.shape
        room = min(max_tokens, self.model.config.context - length)
        assert length > 0 < room, f"a prompt of {length} positions in a context of {self.model.config.context}"
        text = self.model.new_cache(capacity=length)
        known = self._recall(prompt.embeddings[0], text)
        positions = None if prompt.positions is None else prompt.positions[:, known:]
        hidden = self.model(embeddings=prompt.embeddings[:, known:], positions=positions, cache=text).hidden[:, -1]
        slot = self._take_slot()
        self._cache.load(slot, text)
        self._embeddings[slot, :length] = prompt.embeddings[0]
        self._shifts[slot] = 0 if prompt.positions is None else int(prompt.positions.max()) + 1 - length
        reading = self._readings[slot] = SlotReading(self, slot, room, known, self.model.logits(hidden))
        return reading

    def _recall(self, embeddings: Tensor, text: KVCache) -> int:
        """Fill a cache with as much of a prompt `(T, D)` as some slot holds; all but one position at most."""
        if self.model.config.kv_shift:  # needs what stands before the next position, which is known at a text's end alone
            return 0
        same = (self._embeddings[:, : len(embeddings) - 1] == embeddings[:-1]).all(-1)  # (slots, T - 1)
        common: list[int] = same.cumprod(-1).sum(-1).tolist()
        counts = [min(count, length) for count, length in zip(common, self._cache.lengths, strict=True)]
        best = max(range(len(counts)), key=counts.__getitem__)
        self._cache.unload(best, counts[best], text)
        return counts[best]

    def _take_slot(self) -> int:
        if not self._ended:
            first = len(self._cache)
            self._cache.grow(self._step_size)
            self._embeddings = torch.cat([self._embeddings, self._empty(self._step_size)])
            self._shifts += [0] * self._step_size
            self._ended += range(first, len(self._cache))
        return self._ended.pop(0)

    def _empty(self, slots: int) -> Tensor:
        weight = self.model.embedding.weight
        return weight.new_zeros(slots, self.model.config.context, weight.shape[1]).detach()

    def read_later(self, slot: int, token: int) -> None:
        """Read a token in a slot with the next step."""
        self._unread[slot] = token

    @torch.inference_mode()
    def step(self) -> None:
        """Read what is to be read, in all slots at once."""
        model, waiting, self._unread = self.model, self._unread, {}
        rows = self._cache.select(waiting)
        device = model.embedding.weight.device
        tokens = torch.tensor([waiting.get(row, 0) for row in rows], device=device)
        last = model.config.context - 1
        places = torch.tensor([min(self._cache.lengths[row] + self._shifts[row], last) for row in rows], device=device)
        embeddings = model.embedding(tokens)
        slots = torch.tensor(list(waiting), device=device)
        ends = torch.tensor([self._cache.lengths[slot] for slot in waiting], device=device)
        self._embeddings[slots, ends] = embeddings[slots - rows.start]
        with self._threads():
            positions = places[:, None, None].expand(-1, 1, 3)
            scores = model.logits(model(embeddings=embeddings[:, None], positions=positions, cache=self._cache).hidden[:, -1])
        for slot in waiting:
            self._readings[slot].take(scores[slot - rows.start, None])

    def free(self, slot: int) -> None:
        """Nothing more is read in a slot; what it holds may still begin another prompt."""
        if self._readings.pop(slot, None) is not None:
            self._unread.pop(slot, None)
            self._ended.append(slot)


class SlotReading:
    """One text of a pool; a `TokenReader`. `close` it when nothing more is read."""

    def __init__(self, pool: SlotPool, slot: int, room: int, known: int, scores: Tensor) -> None:
        self.room, self.known = room, known
        """Most tokens that may follow; positions of the prompt that had been read before."""
        self._pool, self._slot = pool, slot
        self._scores: Tensor | None = scores

    def scores(self) -> Tensor:
        """`(1, V)` of what may come next."""
        if self._scores is None:
            self._pool.step()
        assert self._scores is not None, "a text that was closed is read on"
        return self._scores

    def read(self, tokens: Sequence[int]) -> None:
        """Read one more token, with the next step."""
        (token,) = tokens
        self._scores = None
        self._pool.read_later(self._slot, token)

    def take(self, scores: Tensor) -> None:
        """From the pool: what came of it."""
        self._scores = scores

    def close(self) -> None:
        """Free the slot."""
        self._pool.free(self._slot)
