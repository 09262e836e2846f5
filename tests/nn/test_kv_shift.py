import torch
from torch import Tensor

from omnictl.nn.transformer import Attention, KVShift, document_mask


def shifted_by_hand(k: Tensor, v: Tensor, shift: KVShift, starts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Number by number."""
    new_k, new_v = torch.empty_like(k), torch.empty_like(v)
    for b in range(k.shape[0]):
        for head in range(k.shape[1]):
            for t in range(k.shape[2]):
                before = (torch.zeros_like(k[b, head, t]), torch.zeros_like(v[b, head, t]))
                if t not in starts[b]:
                    before = (k[b, head, t - 1], v[b, head, t - 1])
                new_k[b, head, t] = shift.own_key[head] * k[b, head, t] + shift.previous_key[head] * before[0]
                new_v[b, head, t] = shift.own_value[head] * v[b, head, t] + shift.previous_value[head] * before[1]
    return new_k, new_v


def random_shift(heads: int) -> KVShift:
    shift = KVShift(heads).double()
    for parameter in shift.parameters():
        torch.nn.init.normal_(parameter)
    return shift


def test_it_is_the_sum_over_two_positions_of_one_document() -> None:
    torch.manual_seed(0)
    shift = random_shift(3)
    k, v = torch.randn(2, 2, 3, 7, 5, dtype=torch.float64)
    segments = torch.tensor([[0, 0, 1, 1, 1, 2, -1], [0, 1, 2, 2, 2, 2, 2]])
    begins = document_mask(segments).begins
    expected = shifted_by_hand(k, v, shift, [[0, 2, 5, 6], [0, 1, 2]])
    for found, truth in zip(shift(k, v, begins, None, 0), expected, strict=True):
        torch.testing.assert_close(found, truth)
    expected = shifted_by_hand(k, v, shift, [[0], [0]])
    for found, truth in zip(shift(k, v, None, None, 0), expected, strict=True):
        torch.testing.assert_close(found, truth)


def test_it_begins_as_plain_attention() -> None:
    torch.manual_seed(0)
    plain = Attention(16, 4, 2, 1e-6)
    torch.manual_seed(0)
    shifts = Attention(16, 4, 2, 1e-6, shifts=True)
    x = torch.randn(2, 9, 16)
    visibility = document_mask(torch.zeros(2, 9, dtype=torch.int32))
    torch.testing.assert_close(shifts(x, None, visibility), plain(x, None, visibility))


def test_a_document_does_not_see_the_one_before_it() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 4, 2, 1e-6, shifts=True).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    first, second = torch.randn(1, 4, 16, dtype=torch.float64), torch.randn(1, 5, 16, dtype=torch.float64)
    segments = torch.tensor([[0] * 4 + [1] * 5])
    together = attention(torch.cat([first, second], 1), None, document_mask(segments))
    alone = attention(second, None, document_mask(torch.zeros(1, 5, dtype=torch.int32)))
    torch.testing.assert_close(together[:, 4:], alone)
