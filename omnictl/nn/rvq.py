"""Residual vector quantisation: each codebook codes what the books before it have left over.

The codebooks are no parameters. They begin as k-means of real vectors and then follow the vectors they are chosen for, as
averages over past steps; codes that are hardly chosen any more are put where a vector of the present step is.

Sources: Zeghidour et al. 2021 (SoundStream: residual quantiser, k-means start, dropout of books) and Défossez et al. 2022
(EnCodec); van den Oord et al. 2017, appendix A.1 (averaged codebooks); Dhariwal et al. 2020 (Jukebox: replacing dead codes);
Défossez et al. 2024 (Moshi: dead by its share of the use, whatever the batch's size). One change: counts and sums are divided by
the number of vectors of the step, so that steps of any size weigh the same against the past and against the k-means start.
Left out on purpose: Laplace smoothing (dead codes are replaced long before a count of zero divides).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from omnictl.config.base import Config
from omnictl.nn.arithmetic import at_least_fp32

LLOYD_ROUNDS = 12


class QuantiserConfig(Config):
    """Size and pace of the codebooks."""

    books: int = Field(4, ge=1, le=1_000, description="codebooks, each for what the ones before leave over")
    codes: int = Field(256, ge=2, le=32_768, description="codes of a book")  # which are kept in 16 bits
    width: int = Field(64, ge=1, le=100_000, description="numbers of a quantised vector")
    decay: float = Field(0.99, ge=0, lt=1, description="of the codebooks' averages, a step")
    revive_below: float = Field(0.1, gt=0, lt=1, description="a code is replaced below this part of an even share of the use")


class QuantiserOutput(NamedTuple):
    """Vectors as sums of codes."""

    values: Tensor  # (B, T, D) fp32 at least; the gradient goes straight through to the input
    codes: Tensor  # (B, K, T) int64, of the books that a row does not use too
    commitment: Tensor  # (B, T) mean over D of (residual − code)², summed over the books used; moves the input alone


class CodebookStatistics(NamedTuple):
    """What a micro-batch leaves for the codebooks to follow."""

    vectors: Tensor  # (N, D)
    codes: Tensor  # (N, K)
    books: Tensor  # (N,) how many books a vector used


class ResidualQuantiser(nn.Module):
    """K codebooks of V codes. In training a forward pass gathers; `apply_batch_statistics` moves the codebooks, once a step."""

    codebooks: Tensor  # (K, V, D) sums / usage
    usage: Tensor  # (K, V) averaged share of a step's vectors that chose the code
    sums: Tensor  # (K, V, D) averaged sum of those vectors, over the number of the step's vectors
    is_started: Tensor  # () bool

    def __init__(self, config: QuantiserConfig) -> None:
        super().__init__()
        self.config = config
        codebooks = torch.randn(config.books, config.codes, config.width)
        self.register_buffer("codebooks", codebooks)
        self.register_buffer("usage", torch.full((config.books, config.codes), 1 / config.codes))
        self.register_buffer("sums", codebooks / config.codes)
        self.register_buffer("is_started", torch.tensor(False))
        self.pending: list[CodebookStatistics] = []

    @property
    def started(self) -> bool:
        """Whether the codebooks have begun as k-means of real vectors, in this run or in the one that they were loaded from."""
        return bool(self.is_started)

    def forward(self, x: Tensor, books: Tensor | None = None) -> QuantiserOutput:
        """Quantise `(B, T, D)`, any float dtype, each row with its first `books` `(B,)` int books, 0…K (default: all)."""
        K = self.config.books
        if books is None:
            books = torch.full((len(x),), K, device=x.device)
        codes = self.encode(x)  # (B, K, T)
        residual = x = x.to(at_least_fp32(x.dtype))
        values, commitment = torch.zeros_like(x), torch.zeros_like(x[..., 0])
        for book in range(K):
            used = (books > book)[:, None]  # (B, 1)
            chosen = self._look_up(book, codes[:, book])  # (B, T, D)
            commitment = commitment + used * (residual - chosen).square().mean(-1)
            values = values + used[..., None] * chosen
            residual = residual - chosen
        if self.training:
            x_flat, codes_flat = x.detach().flatten(0, 1), codes.transpose(1, 2).flatten(0, 1)
            self.pending.append(CodebookStatistics(x_flat, codes_flat, books.repeat_interleave(x.shape[1])))
        # x − x.detach() is zero whatever x is, where the usual x + (values − x).detach() would round the values.
        return QuantiserOutput(values + (x - x.detach()), codes, commitment)

    @torch.no_grad()
    def encode(self, x: Tensor, books: int | None = None) -> Tensor:
        """Codes `(B, k, T)` int64 of `(B, T, D)` in the first k = `books` books (default: all)."""
        residual, codes = x.to(at_least_fp32(x.dtype)), []
        for book in range(self.config.books if books is None else books):
            codes.append(nearest(residual, self.codebooks[book]))
            residual = residual - self._look_up(book, codes[-1])
        return torch.stack(codes, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors `(B, T, D)` of codes `(B, k, T)` of the first k of the K books."""
        values = self._look_up(0, codes[:, 0])
        for book in range(1, codes.shape[1]):
            values = values + self._look_up(book, codes[:, book])
        return values

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """Begin with k-means of `(N, D)` vectors and of what each book leaves over; `generator` is a CPU's."""
        residual = x.to(self.codebooks.dtype)
        for book, codebook in enumerate(self.codebooks):
            codebook.copy_(k_means(residual, self.config.codes, generator))
            codes = nearest(residual, codebook)
            counts, _ = _tally(residual, codes, self.config.codes)
            self.usage[book] = counts / len(residual)  # none for a code without vectors: the first step replaces it
            self.sums[book] = codebook * self.usage[book, :, None]
            residual = residual - self._look_up(book, codes)
        self.is_started.fill_(True)

    def share_batch_statistics(self, concatenate: Callable[[Tensor], Tensor]) -> None:
        """Exchange the vectors gathered since the last call with other processes."""
        if self.pending:
            self.pending = [CodebookStatistics(*(concatenate(torch.cat(parts)) for parts in zip(*self.pending, strict=True)))]

    def forget_batch_statistics(self) -> None:
        """Forget the vectors gathered since the last call."""
        self.pending.clear()

    @torch.no_grad()
    def apply_batch_statistics(self) -> None:
        """Let the codebooks follow the vectors gathered since the last call, and forget these.

        Sums are taken here, over all micro-batches at once, so that no split of a batch changes them. Draws from torch's global
        CPU generator, only where codes are replaced.
        """
        if not self.pending:
            return
        residual, codes, books = (torch.cat(parts) for parts in zip(*self.pending, strict=True))
        self.pending.clear()
        if not residual.isfinite().all():  # fp16 overflowed; the optimizer skips this step too
            return
        total = len(residual)
        for book in range(self.config.books):
            rows, chosen = books > book, self._look_up(book, codes[:, book])  # before the book moves
            if rows.any():
                self._follow(book, residual[rows].to(self.sums.dtype), codes[rows, book], total)
            residual = residual - chosen

    def _follow(self, book: int, vectors: Tensor, codes: Tensor, total: int) -> None:
        """Move one book towards its `vectors` `(n, D)` with `codes` `(n,)`, n of the step's `total`; replace its dead codes."""
        usage, sums = self.usage[book], self.sums[book]
        counts, step_sums = _tally(vectors, codes, self.config.codes)
        usage.lerp_(counts / total, 1 - self.config.decay)
        sums.lerp_(step_sums / total, 1 - self.config.decay)
        even = usage.mean()
        dead = torch.where(usage < self.config.revive_below * even)[0]
        if len(dead) > 0:
            usage[dead] = even
            sums[dead] = even * vectors[_draw(len(dead), len(vectors)).to(vectors.device)]
        self.codebooks[book] = sums / usage[:, None]

    def _look_up(self, book: int, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebooks[book])


def nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest code `(…)` int64 for vectors `(…, D)` and a codebook `(V, D)`, in the dtype of `x`."""
    codebook = codebook.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would confuse neighbours
        # |x − c|² = |x|² − 2 x·c + |c|², and |x|² is the same for every code
        return (codebook.square().sum(-1) - 2 * x @ codebook.mT).argmin(-1)


def k_means(x: Tensor, num_centres: int, generator: torch.Generator) -> Tensor:
    """Centres `(V, D)` of `(N, D)` vectors after some rounds of Lloyd; a centre that loses all vectors jumps to a random one."""
    centres = x[_draw(num_centres, len(x), generator).to(x.device)]
    for _ in range(LLOYD_ROUNDS):
        counts, sums = _tally(x, nearest(x, centres), num_centres)
        strays = x[_draw(num_centres, len(x), generator).to(x.device)]
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), strays)
    return centres


def perplexity(counts: Tensor) -> Tensor:
    """How many codes of each book are used, as the exponential of the entropy, `(K,)` in 1…V.

    Args:
        counts: `(K, V)` how often each code was used; a book that was never used has no perplexity and gives NaN.
    """
    shares = counts / counts.sum(-1, keepdim=True)
    used: Tensor = torch.special.entr(shares).sum(-1).exp()
    return used


def _tally(x: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How many of the vectors `(N, D)` have each code, `(V,)`, and their sums `(V, D)`."""
    counts = torch.bincount(codes, minlength=num_codes).to(x.dtype)
    return counts, x.new_zeros(num_codes, x.shape[-1]).index_add_(0, codes, x)


def _draw(num: int, total: int, generator: torch.Generator | None = None) -> Tensor:
    """Indices `(num,)` below `total`, random, all different as long as there are enough."""
    return torch.randperm(total, generator=generator)[torch.arange(num) % total]
