"""Q4_K, against the `gguf` package, which reads it."""

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from omnictl.export.gguf.q4_k import BLOCK, GROUP, GROUPS, quantize

KINDS = gguf.GGMLQuantizationType


def read(data: NDArray[np.uint8]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = gguf.quants.dequantize(data, KINDS.Q4_K)
    return values


def test_what_the_format_can_hold_comes_back() -> None:
    """Every field of a block has a part in it: two factors, sixteen whole numbers of six bits, and all sixteen levels."""
    rng = np.random.default_rng(0)
    blocks = 12
    scales = rng.integers(8, 64, (blocks, GROUPS, 1))
    least = np.minimum(rng.integers(0, 64, (blocks, GROUPS, 1)), 7 * scales)  # 0 lies within each group
    scales[:, 3], least[:, 5], scales[:, 5] = 63, 63, 20
    levels = rng.permuted(np.arange(GROUP * GROUPS * blocks).reshape(blocks, GROUPS, GROUP) % 16, axis=-1)
    values = (2.0**-8 * scales * levels - 2.0**-7 * least).astype(np.float32).reshape(3, -1)
    data = quantize(values)
    assert (data.shape, data.dtype) == ((3, 4 * 144), np.uint8)
    np.testing.assert_allclose(read(data), values, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.3])
def test_it_is_closer_than_q4_0(shift: float) -> None:
    values = (np.random.default_rng(0).standard_normal((16, 2 * BLOCK)) * 0.1 + shift).astype(np.float32)
    other = gguf.quants.dequantize(gguf.quants.quantize(values, KINDS.Q4_0), KINDS.Q4_0)
    own, theirs = (float(np.square(found - values).mean()) for found in (read(quantize(values)), other))
    assert own < 0.75 * theirs


def test_nothing_stays_nothing() -> None:
    values = np.zeros((2, BLOCK), np.float32)
    values[1, 40:] = 1.0
    assert not read(quantize(values))[0].any()
    np.testing.assert_allclose(read(quantize(values))[1], values[1], atol=0.04)
