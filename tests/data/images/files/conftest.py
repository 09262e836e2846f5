"""A file of given bytes, read or refused."""

import pytest
from image_files import refused

from omnictl.data.images.files.decoder import read_image


@pytest.fixture
def read(tmp_path):
    """Reads a file of these bytes."""

    def call(data, **options):
        path = tmp_path / "a.image"
        path.write_bytes(data)
        return read_image(path, **options)

    return call


@pytest.fixture
def refuse(tmp_path):
    """What is said of a file of these bytes."""

    def call(data, **options):
        path = tmp_path / "a.image"
        path.write_bytes(data)
        error = refused(path, **options)
        return error.message.removeprefix(f"{path} "), error.fix

    return call
