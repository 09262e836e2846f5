"""Projectors learn words before the Thinker learns to read them.

An encoder's own heads already tell what a feature shows or which word it hears. In the first steps of stage E a projected feature
learns to point where the embeddings of these words point:

    loss = Σ [1 − cos(projected feature, Σ_w weight of w · embedding of w)] ÷ number of features that are named

The Thinker takes no part in it, so such a step is many times cheaper than one of the whole model; and attention that finds equal
words in a text then finds them in images and audio, too. Sources: Lu et al. 2024 (arXiv 2405.20797, Ovis: visual tokens as mixtures
of embeddings), Ma et al. 2025 (arXiv 2505.11352, LegoSLM: CTC posteriors as weights of a language model's embeddings).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from omnictl.data.dialogues.imitated_media import spell_word
from omnictl.data.dialogues.modalities import MediaKind
from omnictl.data.text.tokenizer import Tokenizer
from omnictl.features.media_encoders import MediaEncoder
from omnictl.models.omni import Omni
from omnictl.nn.arithmetic import multiplied_weights

LEAST_WEIGHT = 0.5
"""Of a feature's words in all; with less, it shows or says nothing."""


def can_align(encoders: Mapping[MediaKind, MediaEncoder]) -> bool:
    """Whether all encoders have words for what they make."""
    return all(encoder.names_features for encoder in encoders.values())


def alignment_loss(
    model: Omni, encoders: Mapping[MediaKind, MediaEncoder], features: Mapping[MediaKind, Sequence[Tensor]], tokenizer: Tokenizer
) -> tuple[Tensor, int]:
    """The summed loss of a batch, and how many features it is of.

    Args:
        model: whose projectors learn.
        encoders: that made the features.
        features: by kind, of each image or recording `(n, width)`.
        tokenizer: the Thinker's.
    """
    total, count = sum((0.0 * parameter.sum() for parameter in model.projectors.parameters()), start=torch.zeros(())), 0
    table = model.thinker.embedding.weight.detach()
    for kind, of_kind in features.items():
        with torch.no_grad():
            words = encoders[kind].words(of_kind)
            rows = {text: row for row, text in enumerate(dict.fromkeys(text for each in words for text in each.texts))}
            vocabulary = embed_words(list(rows), tokenizer, table)
            targets = torch.cat([each.weights @ vocabulary[[rows[text] for text in each.texts]] for each in words])  # (N, D)
            named = torch.cat([each.weights.sum(-1) for each in words]) >= LEAST_WEIGHT  # (N,)
        projected = model.projectors[kind](torch.cat(list(of_kind)))
        total = total + (1 - F.cosine_similarity(projected[named].float(), targets[named].float(), dim=-1)).sum()
        count += int(named.sum())
    return total, count


def embed_words(texts: Sequence[str], tokenizer: Tokenizer, table: Tensor) -> Tensor:
    """Embeddings `(words, D)`: of each word, as it stands within a sentence, the mean over its tokens."""
    if not texts:
        return table.new_zeros(0, table.shape[1])
    tokens = [spell_word(text, tokenizer) for text in texts]
    return torch.stack([table[ids].mean(0) for ids in tokens])


def projector_flops(model: Omni, counts: Mapping[MediaKind, int]) -> float:
    """Floating-point operations of a step on so many features of each kind: 6 × weights of the projectors' products × features."""
    return 6.0 * sum(multiplied_weights(model.projectors[kind]) * count for kind, count in counts.items())
