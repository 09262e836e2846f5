"""The contrastive loss of images and captions: each image picks its caption out of the batch, each caption its image.

    loss = −½ Σ_i [ln softmax_j(s·x_i·y_j)_i + ln softmax_j(s·x_j·y_i)_i],   x, y of unit length, s learned

Source: Radford et al. 2021 (CLIP). It depends on who else is in the batch, so a batch of it is never split.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_sum(images: Tensor, captions: Tensor, log_scale: Tensor) -> Tensor:
    """The loss in nats, summed over pairs.

    Args:
        images: `(B, D)` of unit length.
        captions: `(B, D)` of unit length, in the images' order.
        log_scale: `()` logarithm of the inverse temperature.
    """
    x, y = (vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors for vectors in (images, captions))
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round what differs by a hundredth to the same
        similarity = log_scale.exp() * x @ y.mT  # (B, B)
    targets = torch.arange(len(similarity), device=similarity.device)
    rows, columns = F.cross_entropy(similarity, targets, reduction="sum"), F.cross_entropy(similarity.mT, targets, reduction="sum")
    return (rows + columns) / 2
