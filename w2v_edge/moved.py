"""Old places of public names, which work for one release."""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any


def moved(module: str, old: str, new: str) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that gives `w2v_edge.NEW`, with a `DeprecationWarning`.

    Args:
        module: name of the module that had the class.
        old: name of the class there.
        new: name of the class in `w2v_edge`.
    """

    def get(name: str) -> Any:
        if name != old:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{old} is now w2v_edge.{new}", DeprecationWarning, stacklevel=2)
        return getattr(import_module("w2v_edge"), new)

    return get
