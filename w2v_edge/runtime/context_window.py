"""The old place of `w2v_edge.Window`, kept for one release."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "ContextWindow":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from w2v_edge.runtime.window import Window

    warnings.warn(
        "w2v_edge.runtime.context_window.ContextWindow is now w2v_edge.Window",
        DeprecationWarning,
        stacklevel=2,
    )
    return Window
