import pytest
import torch

from omnictl.errors import UsageError
from omnictl.trainer.hardware.device import choose_device, peak_memory


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("requested", ["auto", "cpu", "cpu:0"])
def test_without_a_gpu_it_is_the_cpu(requested: str) -> None:
    assert choose_device(requested).type == "cpu"


@pytest.mark.parametrize(("has_gpu", "has_mps", "expected"), [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps")])
def test_auto_takes_the_gpu_there_is(has_gpu: bool, has_mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert choose_device("auto").type == expected


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("requested", ["cuda", "cuda:0", "mps", "cpu:1", "meta"])
def test_a_device_that_is_not_here_is_refused(requested: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_device(requested)
    assert caught.value.message == f"there is no device '{requested}' here (GPUs found: 0)"
    assert caught.value.where == "--device"
    assert caught.value.fix == "use --device auto or --device cpu"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("requested", ["", "gpu", "cuda:x", "cuda:-1"])
def test_what_is_no_device_is_refused(requested: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_device(requested)
    assert caught.value.message == f"'{requested}' is not a device"
    assert caught.value.fix == "use auto, cpu, cuda, cuda:N or mps"


def test_memory_is_in_bytes() -> None:
    assert 50 * 2**20 < peak_memory(torch.device("cpu")) < 2**40  # torch alone is more than 50 MiB
