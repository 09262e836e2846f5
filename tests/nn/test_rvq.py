import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from omnictl.nn.batch_statistics import HasBatchStatistics, apply_batch_statistics
from omnictl.nn.rvq import QuantiserConfig, ResidualQuantiser, nearest, perplexity

K, V, D = 3, 5, 4
BOOKS = torch.tensor([3, 1, 2])


@pytest.fixture
def quantiser() -> ResidualQuantiser:
    torch.manual_seed(1)
    return ResidualQuantiser(QuantiserConfig(books=K, codes=V, width=D, decay=0.75, revive_below=1e-6)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, D, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def by_loops(codebooks: Tensor, vector: Tensor) -> tuple[list[int], list[Tensor]]:
    """Codes of one vector and its residuals before every book."""
    codes, residuals = [], [vector]
    for codebook in codebooks:
        codes.append(min(range(len(codebook)), key=lambda code: float((residuals[-1] - codebook[code]).square().sum())))
        residuals.append(residuals[-1] - codebook[codes[-1]])
    return codes, residuals[:-1]


def buffers(quantiser: ResidualQuantiser) -> list[Tensor]:
    return [quantiser.codebooks.clone(), quantiser.usage.clone(), quantiser.sums.clone()]


def clusters(num: int, *, centres: int = 12, width: int = 8) -> Tensor:
    """Vectors `(num, width)` around some centres that are far apart."""
    generator = torch.Generator().manual_seed(3)
    middles = 5 * torch.randn(centres, width, generator=generator)
    return middles[torch.randint(centres, (num,), generator=generator)] + 0.3 * torch.randn(num, width, generator=generator)


def test_each_book_codes_what_the_books_before_leave(quantiser: ResidualQuantiser, x: Tensor) -> None:
    values, codes, commitment = quantiser.eval()(x, BOOKS)
    assert (values.shape, codes.shape, commitment.shape) == (x.shape, (3, K, 7), (3, 7))
    assert codes.dtype == torch.int64
    for row, books in enumerate(BOOKS.tolist()):
        for t in range(x.shape[1]):
            expected, residuals = by_loops(quantiser.codebooks, x[row, t])
            chosen = torch.stack([quantiser.codebooks[k, code] for k, code in enumerate(expected)])
            assert codes[row, :, t].tolist() == expected  # of the books that the row does not use too
            torch.testing.assert_close(values[row, t], chosen[:books].sum(0))
            errors = [(residuals[k] - chosen[k]).square().mean() for k in range(books)]
            torch.testing.assert_close(commitment[row, t], torch.stack(errors).sum())
    assert len(codes.unique()) == V


def test_all_books_are_used_unless_told_otherwise(quantiser: ResidualQuantiser, x: Tensor) -> None:
    for default, told in zip(quantiser(x), quantiser(x, torch.full((3,), K)), strict=True):
        assert torch.equal(default, told)


def test_a_row_without_books_is_zero(quantiser: ResidualQuantiser, x: Tensor) -> None:
    values, _, commitment = quantiser(x, torch.zeros(3, dtype=torch.int64))
    assert not values.any()
    assert not commitment.any()


def test_the_gradient_of_the_values_is_the_inputs_exactly(quantiser: ResidualQuantiser, x: Tensor) -> None:
    arriving = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(quantiser(x, BOOKS).values, x, arriving)
    assert torch.equal(gradient, arriving)


def test_the_commitment_draws_the_input_towards_its_codes(quantiser: ResidualQuantiser, x: Tensor) -> None:
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(quantiser(x, BOOKS).commitment.sum(), x)
    for row, books in enumerate(BOOKS.tolist()):
        for t in range(x.shape[1]):
            codes, residuals = by_loops(quantiser.codebooks, x[row, t].detach())
            expected = sum(2 / D * (residuals[k] - quantiser.codebooks[k, codes[k]]) for k in range(books))
            torch.testing.assert_close(gradient[row, t], expected)
    assert not list(quantiser.parameters())


def test_codebooks_follow_their_vectors_by_averages(quantiser: ResidualQuantiser, x: Tensor) -> None:
    before, usage, sums = buffers(quantiser)
    for row, books in enumerate(BOOKS.tolist()):  # a row counts for the books it uses only
        for t in range(x.shape[1]):
            codes, residuals = by_loops(before, x[row, t])
            for k in range(books):
                usage[k, codes[k]] += 0.25 / 0.75 / 21
                sums[k, codes[k]] += 0.25 / 0.75 / 21 * residuals[k]
    quantiser(x, BOOKS)
    assert torch.equal(quantiser.codebooks, before)  # gathered, not yet applied
    quantiser.apply_batch_statistics()
    torch.testing.assert_close(quantiser.usage, 0.75 * usage)
    torch.testing.assert_close(quantiser.sums, 0.75 * sums)
    torch.testing.assert_close(quantiser.codebooks, sums / usage[..., None])


def test_an_unused_book_stays_as_it_is(quantiser: ResidualQuantiser, x: Tensor) -> None:
    before = buffers(quantiser)
    quantiser(x, torch.tensor([2, 1, 2]))
    quantiser.apply_batch_statistics()
    for old, new in zip(before, buffers(quantiser), strict=True):
        assert torch.equal(old[2], new[2])
        assert not torch.equal(old[0], new[0])


def test_the_split_of_a_batch_changes_nothing(x: Tensor) -> None:
    found = []
    for parts in ([3], [1, 2], [1, 1, 1]):
        torch.manual_seed(1)
        quantiser = ResidualQuantiser(QuantiserConfig(books=K, codes=V, width=D, decay=0.5, revive_below=0.5)).double()
        for _ in range(4):
            for rows, books in zip(x.split(parts), BOOKS.split(parts), strict=True):
                quantiser(rows, books)
            quantiser.apply_batch_statistics()
        found.append([*buffers(quantiser), torch.rand(1)])  # as many draws, too
    for split in found[1:]:
        torch.testing.assert_close(split, found[0], rtol=1e-12, atol=1e-12)


def test_statistics_are_taken_over_once(quantiser: ResidualQuantiser, x: Tensor) -> None:
    assert isinstance(quantiser, HasBatchStatistics)
    quantiser(x)
    apply_batch_statistics(nn.Sequential(nn.Linear(2, 2), quantiser))
    once = buffers(quantiser)
    quantiser.apply_batch_statistics()
    quantiser.encode(x)
    quantiser.eval()(x)
    quantiser.apply_batch_statistics()
    assert all(map(torch.equal, once, buffers(quantiser)))


def test_vectors_that_overflowed_do_not_reach_the_codebooks(quantiser: ResidualQuantiser, x: Tensor) -> None:
    before = buffers(quantiser)
    x[1, 2, 3] = math.inf
    quantiser(x)
    quantiser.apply_batch_statistics()
    assert all(map(torch.equal, before, buffers(quantiser)))


@pytest.mark.parametrize("book", [0, 1])
def test_a_dead_code_becomes_a_vector_of_the_step(book: int, x: Tensor) -> None:
    quantiser = ResidualQuantiser(QuantiserConfig(books=2, codes=V, width=D)).double()
    quantiser.codebooks[book, 3] = 100.0
    quantiser.sums.copy_(quantiser.codebooks * quantiser.usage[..., None])
    quantiser.usage[book, 3] *= 0.05  # of an even share, where 0.1 is asked for
    quantiser.sums[book, 3] *= 0.05
    before = quantiser.codebooks.clone()
    used = torch.tensor([2, 2, 0])
    codes = quantiser(x, used).codes
    candidates = x[:2].flatten(0, 1)
    if book == 1:
        candidates = candidates - before[0, codes[:2, 0].flatten()]
    quantiser.apply_batch_statistics()
    distances = (quantiser.codebooks[book, 3] - candidates).abs().amax(-1)
    assert distances.min() < 1e-12
    assert quantiser.usage[book, 3] == pytest.approx(1 / V, rel=0.3)
    moved = (quantiser.codebooks - before).abs().amax(-1)
    moved[book, 3] = 0
    assert moved.max() < 0.1


def test_more_dead_codes_than_vectors_are_all_replaced() -> None:
    quantiser = ResidualQuantiser(QuantiserConfig(books=1, codes=6, width=D))
    quantiser.usage[0, 1:] = quantiser.sums[0, 1:] = 1e-9
    vectors = quantiser.codebooks[:, :1] + torch.tensor([[[0.0], [0.01]]])
    quantiser(vectors.flatten(0, 1)[None])
    quantiser.apply_batch_statistics()
    assert quantiser.codebooks.isfinite().all()
    assert [int((nearest(quantiser.codebooks[0, 1:], vectors.flatten(0, 1)) == i).sum()) for i in (0, 1)] in ([2, 3], [3, 2])


def test_k_means_start_beats_random_codes_and_every_book_helps() -> None:
    config = QuantiserConfig(books=3, codes=16, width=8)
    points, fresh = clusters(600), clusters(900)[None, 600:]
    quantiser = ResidualQuantiser(config).eval()
    assert not quantiser.started
    random_error = (quantiser(fresh).values - fresh).square().mean()
    quantiser.start(points, torch.Generator().manual_seed(0))
    assert quantiser.started
    errors = [float((quantiser(fresh, torch.tensor([books])).values - fresh).square().mean()) for books in range(4)]
    assert errors[3] < errors[2] < errors[1] < 0.2 * errors[0]
    assert errors[1] < 0.2 * random_error
    torch.testing.assert_close(quantiser.codebooks, quantiser.sums / quantiser.usage[..., None])


def test_the_start_needs_no_more_vectors_than_there_are() -> None:
    quantiser = ResidualQuantiser(QuantiserConfig(books=2, codes=16, width=8))
    quantiser.start(clusters(5), torch.Generator().manual_seed(0))
    torch.testing.assert_close(quantiser(clusters(5)[None]).values[0], clusters(5), atol=1e-5, rtol=0)
    for _ in range(3):
        quantiser.apply_batch_statistics()
        quantiser(clusters(5)[None])
    assert quantiser.codebooks.isfinite().all()


def test_replacing_dead_codes_brings_all_into_use() -> None:
    x, errors = clusters(400)[None], {0.1: 0.0, 1e-9: 0.0}
    for revive_below in errors:
        config = QuantiserConfig(books=1, codes=16, width=8, decay=0.9, revive_below=revive_below)
        for seed in range(6):  # a single start can be lucky
            torch.manual_seed(seed)
            quantiser = ResidualQuantiser(config)
            for _ in range(60):
                quantised = quantiser(x)
                quantiser.apply_batch_statistics()
            assert (len(quantised.codes.unique()) == 16) == (revive_below == 0.1)
            errors[revive_below] += float((quantised.values - x).square().mean())
    assert errors[0.1] < 0.5 * errors[1e-9]


def test_decoding_gives_the_values_back(quantiser: ResidualQuantiser, x: Tensor) -> None:
    values, codes, _ = quantiser(x)
    assert torch.equal(quantiser.encode(x), codes)
    assert torch.equal(quantiser.decode(codes), values)
    for books in range(1, K + 1):
        assert torch.equal(quantiser.encode(x, books), codes[:, :books])
        parts = [quantiser.codebooks[k][codes[:, k]] for k in range(books)]
        torch.testing.assert_close(quantiser.decode(codes[:, :books]), torch.stack(parts).sum(0))
        assert torch.equal(quantiser.decode(codes[:, :books]), quantiser(x, torch.full((3,), books)).values)


def test_a_saved_quantiser_continues_bit_for_bit(x: Tensor) -> None:
    config = QuantiserConfig(books=K, codes=V, width=D, decay=0.5, revive_below=0.9)

    def train(quantiser: ResidualQuantiser) -> list[Tensor]:
        for _ in range(3):
            quantiser(x.float(), BOOKS)
            quantiser.apply_batch_statistics()
        return buffers(quantiser)

    first, second = ResidualQuantiser(config), ResidualQuantiser(config)
    first.start(x.float().flatten(0, 1), torch.Generator().manual_seed(0))
    train(first)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert second.started
    state = torch.get_rng_state()
    expected = train(first)
    torch.set_rng_state(state)
    assert all(map(torch.equal, train(second), expected))


def test_autocast_changes_no_code() -> None:
    quantiser = ResidualQuantiser(QuantiserConfig(books=4, codes=64, width=16)).eval()
    x = torch.randn(2, 200, 16, generator=torch.Generator().manual_seed(6))
    plain = quantiser(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = quantiser(x)
    assert torch.equal(plain.codes, cast.codes)
    assert torch.equal(plain.values, cast.values)
    assert torch.equal(plain.commitment, cast.commitment)


@pytest.mark.parametrize(("given", "wide"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_the_search_is_at_least_in_fp32(given: torch.dtype, wide: torch.dtype) -> None:
    quantiser = ResidualQuantiser(QuantiserConfig(books=2, codes=64, width=16))
    x = torch.randn(2, 50, 16, generator=torch.Generator().manual_seed(6)).to(given)
    quantised = quantiser(x)
    assert quantised.values.dtype == quantised.commitment.dtype == wide
    assert torch.equal(quantised.codes, quantiser(x.to(wide)).codes)
    quantiser.apply_batch_statistics()
    assert quantiser.codebooks.dtype == torch.float32


def test_perplexity_is_the_number_of_codes_in_use() -> None:
    counts = torch.tensor([[5.0, 5, 5, 5], [0, 9, 0, 0], [3, 0, 3, 0], [1, 2, 0, 0]])
    mixed = math.exp(math.log(3) - 2 / 3 * math.log(2))
    torch.testing.assert_close(perplexity(counts), torch.tensor([4, 1, 2, mixed]))
    assert perplexity(torch.zeros(1, 4)).isnan().all()


def test_codes_fit_into_the_16_bits_that_they_are_kept_in() -> None:
    assert QuantiserConfig(codes=np.iinfo(np.int16).max + 1)
    with pytest.raises(ValidationError, match="less than or equal to 32768"):
        QuantiserConfig(codes=np.iinfo(np.int16).max + 2)
