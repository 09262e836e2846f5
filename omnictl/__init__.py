"""Train a whole small omni model, every weight from scratch, on one small GPU or a laptop."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnictl.api import Model, evaluate, load, train

__version__ = "0.1.0"

__all__ = ["Model", "__version__", "evaluate", "load", "train"]


def __getattr__(name: str) -> Any:
    """The Python API, imported (with torch) when something of it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from omnictl import api  # noqa: PLC0415

    return getattr(api, name)
