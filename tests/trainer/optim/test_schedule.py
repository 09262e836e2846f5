import pytest

from omnictl.trainer.optim.schedule import learning_rate_factor


def factors(steps: int | None, warmup: int = 4, decay_fraction: float = 0.4, count: int = 20) -> list[float]:
    return [learning_rate_factor(step, steps=steps, warmup=warmup, decay_fraction=decay_fraction) for step in range(count)]


def test_corners() -> None:
    rate = factors(20)
    assert rate[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # warmup, not from zero
    assert rate[4:13] == [1.0] * 9  # stable
    assert rate[12:] == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])  # 8 = 0.4 × 20 steps of decay


@pytest.mark.parametrize("steps", [15, 20, 1000, None])
def test_before_the_decay_the_number_of_steps_does_not_matter(steps: int | None) -> None:
    assert factors(steps, count=9) == factors(10**6, count=9)


def test_without_warmup_the_first_step_is_whole() -> None:
    assert factors(20, warmup=0)[0] == 1


def test_without_decay_the_rate_stays() -> None:
    assert factors(20, decay_fraction=0)[4:] == [1.0] * 16
    assert factors(None, count=50)[4:] == [1.0] * 46


def test_decay_over_all_steps_meets_the_warmup() -> None:
    assert factors(10, warmup=4, decay_fraction=1, count=10) == pytest.approx([0.2, 0.4, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("warmup", [0, 1, 50])
@pytest.mark.parametrize("decay_fraction", [0, 0.1, 0.4, 1])
def test_every_step_of_every_schedule_moves(steps: int, warmup: int, decay_fraction: float) -> None:
    assert all(0 < factor <= 1 for factor in factors(steps, warmup, decay_fraction, count=steps))
