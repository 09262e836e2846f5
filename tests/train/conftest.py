import pytest

from omnictl.train import loop


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing ten matrix products takes longer than all these runs."""
    monkeypatch.setattr(loop, "matmul_rate", lambda device: 1e11)
