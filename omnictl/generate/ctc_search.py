"""Reading a CTC model out: the best path, a prefix beam search with a language model, and when each symbol was said.

The beam search keeps, for each prefix of the text, the summed probability of all paths that lead to it, those ending in a blank
apart from those ending in its last symbol: only after a blank can the same symbol come again. A language model rates every
symbol as it is added, so a hypothesis is ranked by

    ln p_ctc(ids) + weight · ln p_lm(ids, end)

Sources: Graves 2012 (section 7.5), Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using
Bi-Directional Recurrent DNNs" (there the language model rates whole words). Left out: its bonus for words, a lexicon, batched
search.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import forced_align  # type: ignore[import-untyped, unused-ignore]

from omnictl.nn.losses.ctc import BLANK, min_frames

State = TypeVar("State")


class SymbolScorer(Protocol[State]):
    """A language model over target ids, one at a time; a state holds what it needs to know of the ids so far."""

    def start(self) -> State:
        """The state before the first id."""

    def score(self, state: State, symbol: int) -> tuple[float, State]:
        """ln p of a symbol after a state, and the state after both."""

    def end(self, state: State) -> float:
        """ln p that nothing follows."""


class Hypothesis(NamedTuple):
    """A text that a beam search found."""

    ids: list[int]
    score: float  # what it is ranked by: -nats and the weighted language model
    nats: float  # -ln p by the CTC model alone; an upper bound where the beam has dropped paths


class Span(NamedTuple):
    """Frames [start, stop)."""

    start: int
    stop: int


class WordSpan(NamedTuple):
    """A word and its frames [start, stop)."""

    text: str
    start: int
    stop: int


def greedy(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """Ids of each row's likeliest path: `(B, S, V)` scores, of which `(B,)` frames count."""
    best = log_probs.argmax(-1)  # (B, S)
    before = F.pad(best, (1, 0), value=BLANK)[:, :-1]
    inside = torch.arange(best.shape[1], device=best.device) < lengths.to(best.device)[:, None]
    kept = (best != BLANK) & (best != before) & inside
    return [row[mask].tolist() for row, mask in zip(best.cpu(), kept.cpu(), strict=True)]


def prefix_beam_search(
    log_probs: Tensor,
    *,
    beam_width: int = 16,
    symbol_floor: float = 1e-3,
    scorer: SymbolScorer[Any] | None = None,
    scorer_weight: float = 0.5,
) -> list[Hypothesis]:
    """The likeliest texts, best first.

    Args:
        log_probs: `(S, V)` normalised log-probabilities, padding cut off.
        beam_width: prefixes kept after each frame, and most hypotheses returned.
        symbol_floor: symbols less probable than this in a frame are not tried there; the likeliest always is. 0: all are.
        scorer: language model.
        scorer_weight: how much its ln p counts.
    """
    root = _Prefix(BLANK, None, 0.0, scorer.start() if scorer else None)
    tree = _Tree(scorer, scorer_weight)
    beam: list[_Entry] = [(root, 1.0, 0.0)]
    log_scale = 0.0  # the masses in the beam are probabilities ÷ its exp, else they would vanish within a second
    for blank, symbols in _likely(log_probs, symbol_floor):
        kept = heapq.nlargest(beam_width, _extend(beam, blank, symbols, tree), key=_rank)
        scale = max(ending_blank + ending_symbol for _, ending_blank, ending_symbol in kept)
        beam = [(prefix, ending_blank / scale, ending_symbol / scale) for prefix, ending_blank, ending_symbol in kept]
        log_scale += math.log(scale)
    hypotheses = []
    for prefix, ending_blank, ending_symbol in beam:
        log_prob = math.log(ending_blank + ending_symbol) + log_scale
        hypotheses.append(Hypothesis(prefix.ids(), log_prob + prefix.bias + tree.end(prefix), -log_prob))
    return sorted(hypotheses, key=lambda hypothesis: hypothesis.score, reverse=True)


@dataclass(eq=False, slots=True)
class _Prefix:
    """A node in the tree of texts. One text is one node, so the paths that lead to it add up under its identity."""

    symbol: int  # the last one; `BLANK` if there is none
    parent: "_Prefix | None"
    bias: float  # what the language model adds to ln p
    state: Any  # the language model's
    children: "dict[int, _Prefix]" = field(default_factory=dict)

    def ids(self) -> list[int]:
        node, result = self, []
        while node.parent is not None:
            result.append(node.symbol)
            node = node.parent
        return result[::-1]


_Entry = tuple[_Prefix, float, float]
"""A prefix, and the summed probability of its paths that end in a blank, and of those that end in its last symbol."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """How prefixes grow; each is rated once, also when the beam drops it and finds it again."""

    scorer: SymbolScorer[Any] | None
    weight: float

    def child(self, prefix: _Prefix, symbol: int) -> _Prefix:
        child = prefix.children.get(symbol)
        if child is None:
            log_prob, state = self.scorer.score(prefix.state, symbol) if self.scorer else (0.0, None)
            child = _Prefix(symbol, prefix, prefix.bias + self.weight * log_prob, state)
            prefix.children[symbol] = child
        return child

    def end(self, prefix: _Prefix) -> float:
        return self.weight * self.scorer.end(prefix.state) if self.scorer else 0.0


def _likely(log_probs: Tensor, floor: float) -> Iterator[tuple[float, list[tuple[int, float]]]]:
    """Each frame's probability of a blank, and the symbols worth trying with theirs."""
    probs = log_probs.detach().cpu().double().exp()  # (S, V)
    keep = probs >= floor
    keep.scatter_(1, probs.argmax(1, keepdim=True), value=True)
    for row in torch.where(keep, probs, 0.0).tolist():
        yield row[BLANK], [(symbol, p) for symbol, p in enumerate(row) if p > 0 and symbol != BLANK]


def _extend(beam: list[_Entry], blank: float, symbols: list[tuple[int, float]], tree: _Tree) -> list[_Entry]:
    """Every prefix that a beam can become with one more frame."""
    masses: dict[_Prefix, list[float]] = {}
    for prefix, ending_blank, ending_symbol in beam:
        total = ending_blank + ending_symbol
        mass = masses.setdefault(prefix, [0.0, 0.0])
        mass[0] += total * blank
        for symbol, p in symbols:
            added = total * p
            if symbol == prefix.symbol:
                mass[1] += ending_symbol * p  # the repeat is merged
                added = ending_blank * p
            if added > 0:
                masses.setdefault(tree.child(prefix, symbol), [0.0, 0.0])[1] += added
    return [(prefix, mass[0], mass[1]) for prefix, mass in masses.items() if mass[0] + mass[1] > 0]


def _rank(entry: _Entry) -> float:
    prefix, ending_blank, ending_symbol = entry
    return math.log(ending_blank + ending_symbol) + prefix.bias


def align(log_probs: Tensor, ids: Sequence[int]) -> list[Span]:
    """The frames of each id on the likeliest path that spells them; blank frames belong to none.

    Args:
        log_probs: `(S, V)` finite log-probabilities, padding cut off.
        ids: a target without blanks, possibly empty.

    Raises:
        ValueError: it does not fit into the frames, or a log-probability is not finite.
    """
    if not log_probs.isfinite().all():  # torchaudio would return a wrong path, or read beyond its memory
        raise ValueError("cannot align with log-probabilities that are not finite")
    needed = min_frames(ids)
    if needed > len(log_probs):
        raise ValueError(f"{len(ids)} symbols need {needed} frames, found {len(log_probs)}")
    if not ids:
        return []
    path, _ = forced_align(log_probs.detach().float().cpu()[None], torch.tensor([list(ids)]), blank=BLANK)
    spans, frame = [], 0
    for symbol, run in groupby(path[0].tolist()):
        start, frame = frame, frame + len(list(run))
        if symbol != BLANK:
            spans.append(Span(start, frame))
    return spans


def align_words(log_probs: Tensor, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[WordSpan]:
    """The words of a target and their frames; `decode` makes characters of ids. Raises as `align`."""
    pieces = [decode([symbol]) for symbol in ids]
    spans = [span for piece, span in zip(pieces, align(log_probs, ids), strict=True) for _ in piece]  # one a character
    return word_spans("".join(pieces), spans)


def word_spans(text: str, spans: Sequence[Span]) -> list[WordSpan]:
    """Words and their frames, from the first character's first to the last one's last.

    Args:
        text: words separated by spaces.
        spans: one a character of `text`, spaces included, as `align` gives them.

    Raises:
        ValueError: there are not as many spans as characters.
    """
    if len(text) != len(spans):
        raise ValueError(f"{len(text)} characters have {len(spans)} spans, expected one each")
    words = []
    for is_space, run in groupby(zip(text, spans, strict=True), key=lambda pair: pair[0] == " "):
        if not is_space:
            characters, frames = zip(*run, strict=True)
            words.append(WordSpan("".join(characters), frames[0].start, frames[-1].stop))
    return words


def words_of_path(path: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[WordSpan]:
    """Words of a path and their frames, from the first character's first to the last one's last.

    Args:
        path: the symbol of each frame, blanks among them.
        decode: the text of ids without blanks; words are separated by spaces.
    """
    words: list[WordSpan] = []
    within, frame = False, 0
    for symbol, run in groupby(path):
        start, frame = frame, frame + len(list(run))
        for character in "" if symbol == BLANK else decode([symbol]):
            if character == " ":
                within = False
            elif within:
                words[-1] = WordSpan(words[-1].text + character, words[-1].start, frame)
            else:
                words.append(WordSpan(character, start, frame))
                within = True
    return words
