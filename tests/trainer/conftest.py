import pytest

from omnictl.trainer import trainer


@pytest.fixture(autouse=True)
def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing ten matrix products takes longer than all these runs."""
    monkeypatch.setattr(trainer, "matmul_rate", lambda device: 1e11)
