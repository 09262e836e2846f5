"""Names of what is written."""

import pytest

from omnictl.errors import UsageError
from omnictl.export.targets import file_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2026-11-27_05-12-03_tiny", None),
        ("me/my-thinker", "my-thinker"),
        ("../x", "x"),
        ("My model (2)", "My-model-2"),
        ("Größe", None),
    ],
)
def test_a_file_is_called_by_the_last_part_of_a_name(name: str, expected: str | None) -> None:
    assert file_name(name) == (expected or name)


@pytest.mark.parametrize("name", ["", "..", "me/", "\0", "a" * 300], ids=repr)
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no file can be called by the model's name") as caught:
        file_name(name)
    assert caught.value.where == "--name"
