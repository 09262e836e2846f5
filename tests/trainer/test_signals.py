import signal

import pytest

from omnictl.trainer.signals import Requests, listen_for_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopping_signal_is_a_request_with_an_exit_code(number: signal.Signals, code: int) -> None:
    with listen_for_signals() as requests:
        signal.raise_signal(number)
        assert requests == Requests(stop=number, save=False)
    assert requests.exit_code == code


def test_usr1_asks_for_a_save_alone() -> None:
    with listen_for_signals() as requests:
        signal.raise_signal(signal.SIGUSR1)
        assert requests == Requests(stop=None, save=True)
    assert requests.exit_code == 0


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_after_a_stopping_signal_stops_at_once(first: signal.Signals) -> None:
    with listen_for_signals():
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_termination_waits_like_the_first() -> None:
    with listen_for_signals() as requests:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert requests.exit_code == 143


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with listen_for_signals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(ValueError, match="oops"), listen_for_signals():
        raise ValueError("oops")
    assert [signal.getsignal(number) for number in numbers] == before
