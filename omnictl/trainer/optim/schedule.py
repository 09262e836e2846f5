"""Warmup–stable–decay learning rate (Hu et al. 2024, MiniCPM; linear decay as in Hägele et al. 2024).

Warmup and the stable phase do not depend on the total number of steps, so that number may still be measured while they run.
"""


def learning_rate_factor(step: int, *, steps: int | None, warmup: int, decay_fraction: float) -> float:
    """Factor on the peak learning rate at a 0-based step.

    Args:
        step: the step about to be taken.
        steps: total steps, None while they are not fixed yet (then the rate never decays).
        warmup: steps of linear warmup.
        decay_fraction: share of all steps, at the end, over which the rate falls linearly towards zero.
    """
    rising = min(1.0, (step + 1) / (warmup + 1))
    if steps is None or decay_fraction == 0:
        return rising
    decay_steps = max(1.0, decay_fraction * steps)
    return min(rising, (steps - step) / decay_steps, 1.0)
