"""Convolutions over time: what they see, and that padding is not seen."""

import pytest
import torch
from torch import nn

from omnictl.nn.conv import ResidualConv, TimeConv, apply_layers

X = torch.randn(1, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def seen_from(layer: nn.Module, place: int) -> list[int]:
    """The places whose change changes the output at `place`."""
    plain = layer(X)[0, place]
    changed = []
    for other in range(X.shape[1]):
        x = X.clone()
        x[0, other] += 1.0
        if not torch.equal(layer(x)[0, place], plain):
            changed.append(other)
    return changed


@pytest.mark.parametrize(
    ("kernel", "dilation", "causal", "expected"),
    [
        (3, 1, True, [8, 9, 10]),
        (3, 2, True, [6, 8, 10]),
        (3, 1, False, [9, 10, 11]),
        (3, 2, False, [8, 10, 12]),
        (1, 1, True, [10]),
    ],
)
def test_what_a_convolution_sees(kernel: int, dilation: int, causal: bool, expected: list[int]) -> None:
    torch.manual_seed(0)
    assert seen_from(TimeConv(4, 4, kernel, dilation=dilation, causal=causal).double(), 10) == expected


def test_padding_is_not_seen() -> None:
    torch.manual_seed(0)
    layers = nn.ModuleList(ResidualConv(4, 3, 1e-6) for _ in range(3)).double()
    for layer in layers:
        nn.init.normal_(layer.out_proj.weight)
    whole = apply_layers(layers, X[:, :12], torch.tensor([12]))
    padded = apply_layers(layers, X, torch.tensor([12]))
    torch.testing.assert_close(padded[:, :12], whole)


def test_a_residual_convolution_begins_as_nothing() -> None:
    torch.manual_seed(0)
    assert torch.equal(ResidualConv(4, 3, 1e-6).double()(X), X)
