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


def test_a_fix_names_settings_by_where_they_stand() -> None:
    error = errors.Diverged("not finite", fix="use --set train.lr=1e-4 --set train.muon_lr=0.01")
    for part in ("codec", "talker"):  # from the inside out
        error.within(part)
    assert error.fix == "use --set talker.codec.train.lr=1e-4 --set talker.codec.train.muon_lr=0.01"
