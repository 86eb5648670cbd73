"""The old place of `w2v_edge.BeamSearch`, kept for one release."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "BeamSearch":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from w2v_edge.text.beam_search import BeamSearch

    warnings.warn(
        "w2v_edge.runtime.beam_search.BeamSearch is now w2v_edge.BeamSearch",
        DeprecationWarning,
        stacklevel=2,
    )
    return BeamSearch
