"""Libraries that only exports need."""

from importlib import import_module
from types import ModuleType
from typing import Any

from omnictl.errors import UsageError


def require_transformers() -> Any:
    """The `transformers` library, without its progress bars.

    Raises:
        UsageError: it is not installed.
    """
    transformers: Any = require("transformers", "export")
    import_module("transformers.utils.logging").disable_progress_bar()
    return transformers


def require(name: str, extra: str) -> ModuleType:
    """Import a library of an extra.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this needs the Python package `{error.name}`, which is not installed",
            where=name,
            fix=f"pip install 'omnictl[{extra}]'",
        ) from error
