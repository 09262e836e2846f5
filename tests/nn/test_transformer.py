import pytest
import torch
import torch.nn.functional as F

from omnictl.nn.transformer import (
    KVCache,
    RMSNorm,
    Visibility,
    _attend_by_products,
    cached_visibility,
    document_mask,
    rotary_table,
    rotate,
)


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(4, eps=1e-6)
    norm.weight.data = torch.tensor([1.0, 2.0, 3.0, 4.0])
    x = torch.tensor([[3.0, -3.0, 3.0, -3.0]])
    torch.testing.assert_close(norm(x), torch.tensor([[1.0, -2.0, 3.0, -4.0]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rms_norm_keeps_the_dtype_and_does_not_overflow(dtype: torch.dtype) -> None:
    norm = RMSNorm(8, eps=1e-6)
    out = norm(torch.full((2, 8), 60_000.0, dtype=dtype))  # its square is beyond fp16
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), torch.ones(2, 8, dtype=torch.float64), atol=4e-3, rtol=0)


def test_rotation_is_a_complex_product_with_the_position_as_angle() -> None:
    length, width, theta = 7, 6, 100.0
    x = torch.randn(2, 3, length, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = rotate(x, rotary_table(length, width, theta))
    numbers = torch.complex(x[..., : width // 2], x[..., width // 2 :])  # the half-split layout
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
    expected = numbers * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(got, torch.cat([expected.real, expected.imag], -1), atol=1e-6, rtol=0)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k = (torch.randn(1, 1, 1, 8, dtype=torch.float64, generator=generator).expand(1, 1, 20, 8) for _ in range(2))
    table = rotary_table(20, 8, 10_000.0)
    products = (rotate(q, table) @ rotate(k, table).transpose(-1, -2))[0, 0]  # (T, T)
    for distance in (0, 1, 7):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-6, rtol=0)


def test_document_mask_sees_earlier_positions_of_the_same_document() -> None:
    visible = document_mask(torch.tensor([[0, 0, 1, 1, -1, -1]]))
    assert not visible.causal
    assert visible.mask is not None
    assert visible.mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_new_positions_see_the_whole_cache_and_no_later_one() -> None:
    cpu = torch.device("cpu")
    assert cached_visibility(0, 5, cpu) == (True, None, None)
    assert cached_visibility(9, 1, cpu) == (False, None, None)
    mask = cached_visibility(2, 3, cpu).mask
    assert mask is not None
    assert mask[0, 0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_padding_is_seen_by_itself_alone() -> None:
    visible = cached_visibility(0, 3, torch.device("cpu"), torch.tensor([0, 2]))
    assert visible.mask is not None
    assert visible.begins is not None
    assert visible.mask[:, 0].int().tolist() == [[[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]]
    assert visible.begins.tolist() == [[True, False, False], [False, False, True]]
    mask = cached_visibility(3, 1, torch.device("cpu"), torch.tensor([0, 2])).mask
    assert mask is not None
    assert mask[:, 0].int().tolist() == [[[1, 1, 1, 1]], [[0, 0, 1, 1]]]


def test_a_full_cache_refuses_more() -> None:
    cache = KVCache(layers=1, batch=1, heads=1, capacity=2, head_width=2, like=torch.zeros(1))
    with pytest.raises(AssertionError, match="cache of 2 positions asked to hold 3"):
        cache.extend(0, torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("held", [0, 3])
@pytest.mark.parametrize("visibility", ["causal", "documents", "everything"])
def test_plain_products_attend_like_the_fused_kernel(kv_heads: int, held: int, visibility: str) -> None:
    torch.manual_seed(0)
    new = 5
    q = torch.randn(2, 4, new, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, kv_heads, held + new, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    mask = {
        "causal": cached_visibility(held, new, q.device).mask,
        "documents": document_mask(torch.randint(2, (2, held + new)).sort().values).mask,
        "everything": None,
    }[visibility]
    if visibility == "documents":
        assert mask is not None
        mask = mask[:, :, held:]
    causal = visibility == "causal" and mask is None
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
    got = _attend_by_products(q, k, v, Visibility(causal, mask))
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    direction = torch.randn_like(expected)
    for wanted, found in zip(
        torch.autograd.grad(expected, (q, k, v), direction), torch.autograd.grad(got, (q, k, v), direction), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
