import math

import pytest

from omnictl.metrics.text import bits_per_byte, perplexity


def test_perplexity_is_the_number_of_equally_likely_choices() -> None:
    assert perplexity(0.0, 5) == 1
    assert perplexity(10 * math.log(7), 10) == pytest.approx(7)


def test_perplexity_beyond_any_float_is_infinite() -> None:
    assert perplexity(1e6, 1) == math.inf
    assert perplexity(699.0, 1) == pytest.approx(math.exp(699))


def test_bits_per_byte_of_a_uniform_choice_among_bytes_is_eight() -> None:
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)
