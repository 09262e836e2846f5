"""Metrics of language models."""

import math


def perplexity(nats: float, num_tokens: int) -> float:
    """exp(nats per token), e.g. 1 for a model that is always certain and right; infinite beyond what a float can hold."""
    per_token = nats / num_tokens
    return math.exp(per_token) if per_token < 700 else math.inf


def bits_per_byte(nats: float, num_bytes: int) -> float:
    """Bits needed a byte of UTF-8 text: comparable between tokenizers, unlike perplexity."""
    return nats / math.log(2) / num_bytes
