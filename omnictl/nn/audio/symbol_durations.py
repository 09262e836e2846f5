"""How many frames each symbol of a text takes, on the likeliest monotonic path through an alignment.

Source: Rabiner 1989 (Viterbi algorithm); `nn.losses.monotonic` trains the distributions that it goes through.
"""

import numpy as np
from numpy.typing import NDArray


def likeliest_durations(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int64], text_lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Frames of every symbol on the likeliest monotonic path (Viterbi), `(B, T)`: at least one each, zero beyond the text.

    Args:
        log_probs: `(B, S, T)` ln p(symbol at position t | frame s).
        lengths: `(B,)` frames that count, at least as many as symbols.
        text_lengths: `(B,)` symbols that count.
    """
    rows, num_frames, num_positions = log_probs.shape
    assert (lengths >= text_lengths).all(), "a text of more symbols than frames has no path"
    best = np.full((rows, num_positions), -np.inf, np.float64)
    best[:, 0] = log_probs[:, 0, 0]
    advanced = np.zeros((num_frames, rows, num_positions), bool)  # from the symbol before
    for s in range(1, num_frames):
        before = np.concatenate([np.full((rows, 1), -np.inf), best[:, :-1]], 1)
        advanced[s] = before > best
        best = np.maximum(before, best) + log_probs[:, s]
    durations = np.zeros((rows, num_positions), np.int64)
    row, place = np.arange(rows), text_lengths - 1
    for s in range(num_frames - 1, -1, -1):
        inside = s < lengths
        durations[row[inside], place[inside]] += 1
        place = place - (inside & advanced[s, row, place])
    return durations
