import math

import numpy as np
import pytest

from omnictl.metrics.intervals import (
    Estimate,
    certain,
    error_rate,
    mean,
    mean_of_rates,
    rate,
    rate_from,
    rate_of,
    ratio,
)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(right: int, count: int, low: float, high: float) -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    found = rate_of(right, count)
    assert (found.value, found.count) == (right / count, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert rate([True] * right + [False] * (count - right)) == rate_from(right / count, count) == found


def test_the_mean_of_a_normal_sample_has_students_interval() -> None:
    sample = np.random.default_rng(3).normal(5, 2, 400)
    found = mean(sample)
    from scipy import stats  # slow: not for each process that collects tests

    half = stats.t.ppf(0.975, 399) * sample.std(ddof=1) / 20
    assert found.value == pytest.approx(sample.mean())
    assert found.low == pytest.approx(sample.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(sample.mean() + half, abs=0.15 * half)


def test_a_ratio_of_sums_as_by_brute_force() -> None:
    rng = np.random.default_rng(4)
    errors, lengths = rng.poisson(0.8, 120), rng.integers(3, 12, 120)
    draws = rng.integers(0, 120, (4000, 120))
    sampled = np.sort([errors[draw].sum() / lengths[draw].sum() for draw in draws])
    found = error_rate(errors, lengths)
    assert found.value == errors.sum() / lengths.sum()
    assert found.low == pytest.approx(np.quantile(sampled, 0.025), abs=0.006)
    assert found.high == pytest.approx(np.quantile(sampled, 0.975), abs=0.006)
    assert (ratio(errors, lengths).low, ratio(errors, lengths).high) == (found.low, found.high)
    assert error_rate(errors, lengths) == found  # the same every time


@pytest.mark.parametrize("size", [5, 10, 40])
def test_the_interval_of_a_few_examples_holds_the_true_value(size: int) -> None:
    rng = np.random.default_rng(5)
    held = [found.low <= 0 <= found.high for found in (mean(rng.normal(0, 1, size)) for _ in range(200))]
    assert 0.9 <= sum(held) / len(held) <= 1


def test_a_mean_of_rates_is_as_exact_as_its_tasks() -> None:
    tasks = [rate_of(40, 100), rate_of(80, 100), rate_of(100, 100)]
    found = mean_of_rates(tasks)
    normal = 1.96 * math.sqrt(sum(one.value * (1 - one.value) / 100 for one in tasks)) / 3
    assert (found.value, found.count) == (pytest.approx(2.2 / 3), 300)
    assert found.half_width == pytest.approx(normal, rel=0.1)
    assert mean_of_rates(tasks[2:]) == tasks[2]
    assert mean_of_rates([rate_of(5, 5)] * 4).low < 0.9  # all right, which five examples a task do not prove
    assert mean_of_rates([]) == Estimate(0.0, 0, 0.0, 1.0)


def test_without_any_error_the_interval_is_not_empty() -> None:
    found = error_rate([0] * 20, [7] * 20)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.1611, abs=5e-5)
    wrong = error_rate([14] * 20, [7] * 20)
    assert (wrong.value, wrong.high) == (2, 2)
    assert wrong.low == pytest.approx(1 - 0.1611, abs=5e-5)


def test_of_one_example_little_is_known() -> None:
    assert error_rate([1], [4]).half_width > 0.3
    found = ratio([6.0], [2])
    assert (found.value, found.half_width, found.wanted_count) == (3, math.inf, None)
    assert not found.is_narrow
    assert found.as_json() == {"value": 3.0, "n": 1, "low": None, "high": None, "beats_control": None}
    assert found.as_text == "3.000 ± unknown"
    assert found.map_value(math.exp, "amount").low == 0


def test_references_without_a_word() -> None:
    assert error_rate([0, 0], [0, 0]).value == 0
    assert error_rate([3], [0]).value == math.inf


def test_shares_are_narrow_in_points_and_amounts_in_proportion() -> None:
    share, amount = Estimate(0.5, 100, 0.46, 0.54), Estimate(50.0, 100, 49.0, 51.0, "amount")
    assert (share.half_width, amount.half_width) == (pytest.approx(0.04), pytest.approx(0.02))
    assert (share.is_narrow, amount.is_narrow) == (False, True)
    assert share.wanted_count == pytest.approx(178, abs=1)


def test_a_control_is_beaten_only_where_the_intervals_do_not_overlap() -> None:
    low, high = Estimate(0.2, 50, 0.1, 0.3), Estimate(0.6, 50, 0.5, 0.7)
    assert low.beats is None
    assert low.against("c", high, "lower").beats is True
    assert low.against("c", high, "higher").beats is False
    assert high.against("c", low, "higher").beats is True
    assert high.against("c", Estimate(0.45, 50, 0.35, 0.55), "higher").beats is False
    assert high.against("c", certain(0.45, 50), "higher").as_json() == {
        "value": 0.6,
        "n": 50,
        "low": 0.5,
        "high": 0.7,
        "control": "c",
        "control_value": 0.45,
        "beats_control": True,
    }
