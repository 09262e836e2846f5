"""Steps whose loss or gradient is not finite, or whose gradient is far larger than those before it.

A step that is not finite is skipped: neither the weights nor their averages nor codebooks move. After three in a row the training
goes back to the weights of its last good checkpoint and on behind these steps, as PaLM's did (Chowdhery et al. 2022, section 5.1);
as many again, and it ends. A gradient that is far too large is clipped like every other. Both are written to the run's
`bad_steps.jsonl` with their examples.
"""

import json
import math
import os
import statistics
from collections.abc import Sequence

from omnictl.runs.files import writing
from omnictl.runs.run import Run
from omnictl.trainer.checkpoint import TrainState

PATIENCE = 3
"""So many steps in a row are not finite before the training goes back to a checkpoint, and as many again before it ends."""

PATIENCE_FP16 = 51
"""The same for fp16, where steps overflow in a row while the loss scale is found."""

MOST_RETURNS = 3
"""Of a run: one that has to go back more often learns nothing."""

RECENT = 20
"""Gradient norms that a step's is compared with."""

FAR_OUT = 1000.0
"""So many times the median of the recent ones, and larger than the norm that gradients are clipped to."""


def is_far_out(norm: float, state: TrainState, clip_norm: float) -> bool:
    """Whether a gradient's norm is far larger than those of the steps before it."""
    known = len(state.norms) >= RECENT // 2
    return known and norm > max(clip_norm, FAR_OUT * statistics.median(state.norms))


def why_end(state: TrainState, patience: int) -> str | None:
    """Why a training ends after a step that was not finite; None if it goes on.

    Args:
        state: with this step among those skipped.
        patience: so many in a row are a reason to go back to a checkpoint.
    """
    if state.skipped < patience or patience < state.skipped < 2 * patience:
        return None
    row = f"{state.skipped} steps in a row"
    if state.good_step is None:
        return f"{row}, and there is no checkpoint to go back to yet"
    if state.skipped > patience:
        return f"{row}, though the training went back to the checkpoint of step {state.good_step}"
    if state.returns == MOST_RETURNS:
        return f"{row}, though the training went back to a checkpoint {MOST_RETURNS} times"
    return None


def log_bad_step(run: Run, step: int, action: str, **fields: float | Sequence[object]) -> None:
    """Append a line to `bad_steps.jsonl`, durably; a number that is not finite is written as text.

    Args:
        run: where to.
        step: the step, from 1.
        action: what was done: `skipped`, `clipped`, `returned`.
        fields: what else is known.

    Raises:
        DiskFull, RunError: it cannot be written.
    """
    plain = {name: str(value) if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()}
    line = json.dumps({"step": step, "action": action, **plain}, allow_nan=False)
    with writing(run.path), run.bad_steps_file.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())
        os.fsync(file.fileno())
