"""What is loaded when a server starts."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from omnictl.data.images import augmentation
from omnictl.serve.model import Parts, open_served_model
from omnictl.use.chat_session import Session


def test_what_resizes_images_is_there_before_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(Session, "open", lambda *_: SimpleNamespace(senses={"image": SimpleNamespace()}))
    augmentation._functional.cache_clear()
    open_served_model(("model",), tmp_path, Parts(None, None), torch.device("cpu"), tmp_path, temperature=0.0)
    assert augmentation._functional.cache_info().currsize == 1
