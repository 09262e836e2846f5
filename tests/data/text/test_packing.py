import numpy as np
import pytest

from omnictl.data.text.packing import pack


def bounds_of(lengths, start=1):
    return np.concatenate(([start], start + np.cumsum(lengths)))


def windows_of(packing):
    return [[tuple(span) for span in packing.window(i).tolist()] for i in range(packing.num_windows)]


def test_a_small_example_by_hand():
    # Longest first: 5 opens a window, 4 another, 3 fits the first exactly, 2 the second, and 1 too.
    packing = pack(bounds_of([3, 5, 4, 2, 1], start=0), 8, offset=8)
    assert windows_of(packing) == [[(0, 3), (3, 8)], [(8, 12), (12, 14), (14, 15)]]


def test_a_long_document_is_cut_at_the_offset_and_then_every_window():
    assert windows_of(pack(np.array([1, 26]), 8, offset=5)) == [[(1, 6)], [(6, 14)], [(14, 22)], [(22, 26)]]
    assert windows_of(pack(np.array([1, 26]), 8, offset=8)) == [[(1, 9)], [(9, 17)], [(17, 25)], [(25, 26)]]


def test_leftovers_of_a_long_document_share_windows():
    assert windows_of(pack(np.array([0, 11]), 8, offset=2)) == [[(0, 2), (10, 11)], [(2, 10)]]


@pytest.mark.parametrize("offset", [1, 7, 32])
def test_every_prediction_falls_in_one_piece_of_one_document(offset):
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    bounds = bounds_of(lengths)
    packing = pack(bounds, 32, offset=offset)
    times = np.zeros(bounds[-1], int)
    for window in windows_of(packing):
        assert sum(stop - start for start, stop in window) <= 32
        for start, stop in window:
            assert start < stop
            times[start:stop] += 1
            document = np.searchsorted(bounds, start, side="right")
            assert stop <= bounds[document]
            length = bounds[document] - bounds[document - 1]
            assert length > 32 or stop - start == length  # what fits is not cut
    assert times[0] == 0
    assert (times[1:] == 1).all()


def test_windows_follow_the_text():
    packing = pack(bounds_of(np.random.default_rng(1).integers(1, 100, 300)), 32, offset=32)
    windows = windows_of(packing)
    assert [window[0] for window in windows] == sorted(window[0] for window in windows)
    assert all(window == sorted(window) for window in windows)


@pytest.mark.parametrize(("low", "high"), [(5, 40), (20, 200), (30, 31)])
def test_padding_of_short_documents_is_small(low, high):
    lengths = np.random.default_rng(2).integers(low, high, 5000)
    packing = pack(bounds_of(lengths), 512, offset=512)
    assert 1 - lengths.sum() / (packing.num_windows * 512) < 0.03
