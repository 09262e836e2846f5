"""Direct preference optimisation: the better of two replies becomes likelier than the worse one, measured against a frozen model.

    margin = β · [(ln p(better) − ln p₀(better)) − (ln p(worse) − ln p₀(worse))]
    loss = −Σ ln σ(margin)

Source: Rafailov et al. 2023 (arXiv 2305.18290).
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class PreferenceLoss(NamedTuple):
    """Of pairs of replies."""

    sum: Tensor  # scalar, in nats
    margins: Tensor  # (pairs,) detached; above 0 where the better reply has gained more than the worse one


def dpo_loss(nats: Tensor, reference_nats: Tensor, beta: float) -> PreferenceLoss:
    """The summed loss.

    Args:
        nats: `(pairs, 2)`, −ln p of the better reply and of the worse one.
        reference_nats: the same under the frozen model.
        beta: how dear it is to move away from that.
    """
    gains = reference_nats - nats  # (pairs, 2) how much likelier each reply has become
    margins = beta * (gains[:, 0] - gains[:, 1])
    return PreferenceLoss(F.softplus(-margins).sum(), margins.detach())
