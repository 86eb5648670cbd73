"""A provider's default options, and the caller's in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping

LOAD_CONFIG = "load_config"
"""OpenVINO's option of settings by device, in JSON."""


def merge_options(defaults: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults with the caller's options in their place, or added.

    Of `load_config` single settings are replaced: one of the caller's must not drop the precision
    that is computed in.
    """
    merged = {**defaults, **given}
    try:
        ours, theirs = (json.loads(options[LOAD_CONFIG]) for options in (defaults, given))
        devices = {name: {**ours.get(name, {}), **theirs.get(name, {})} for name in ours | theirs}
    except (KeyError, ValueError, TypeError, AttributeError):
        # One of them is missing, or the caller's is damaged: OpenVINO says so.
        return merged
    return merged | {LOAD_CONFIG: json.dumps(devices)}
