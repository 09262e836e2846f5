"""A server on the loopback with a model that has learned nothing, and clients of it."""

from collections.abc import Iterator

import httpx
import pytest
import torch
from loopback import serving
from stage_factory import finished_run

from omnictl.data.manifest.cache import cache_dir
from omnictl.serve.model import Parts, ServedModel, find_parts, open_served_model


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A debug model of stage E, with all its parts."""
    root = tmp_path_factory.mktemp("served")
    run = finished_run(root, "sft")
    return open_served_model(
        (run.path.name,), run.model, find_parts(run.model, root), torch.device("cpu"), cache_dir(), temperature=0.0
    )


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """A Thinker alone."""
    run = finished_run(tmp_path_factory.mktemp("bare"), "pretrain")
    return open_served_model(("bare",), run.model, Parts(None, None), torch.device("cpu"), cache_dir(), temperature=0.7)


@pytest.fixture(scope="session")
def address(served: ServedModel) -> Iterator[str]:
    """Where the server of `served` listens."""
    with serving(served) as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=address, timeout=60) as opened:
        yield opened
