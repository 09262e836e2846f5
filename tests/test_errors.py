import inspect
import pickle

import pytest

from omnictl import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.OmniError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_from_one_process_to_another_whole(kind: type[errors.OmniError]) -> None:
    error = kind("found this, expected that", fix="do so", where="row 3")
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is kind
    assert (str(other), other.fix, other.where) == ("found this, expected that", "do so", "row 3")
    assert (other.kind, other.exit_code) == (error.kind, error.exit_code)
