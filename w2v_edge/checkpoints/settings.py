"""Typed look-ups in the settings of a source checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError


@dataclass(frozen=True)
class SourceSettings:
    """Settings of a source checkpoint, with defaults; a value has the type of its default.

    Attributes:
        path: the checkpoint, for errors.
        values: the settings, as parsed.
        defaults: default of each setting that is read. Another key is a KeyError, so that a
            misspelt key cannot silently read its default.
        null_is_default: None counts as missing; else it is an error.
    """

    path: Path | str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    null_is_default: bool = False

    def __getitem__(self, key: str) -> Any:
        """Return a setting.

        Raises:
            CheckpointError: it has another type than its default.
        """
        default = self.defaults[key]
        value = self.values.get(key, default)
        if value is None and self.null_is_default:
            return default
        kind = (int, float) if isinstance(default, float) else type(default)
        bool_mismatch = isinstance(value, bool) != isinstance(default, bool)
        if default is not None and (bool_mismatch or not isinstance(value, kind)):
            raise self.error(key, type(default).__name__)
        return value

    def integer(self, key: str) -> int | None:
        """Return an integer or None.

        Raises:
            CheckpointError: it is neither.
        """
        value = self.values.get(key, self.defaults[key])
        if value is not None and type(value) is not int:
            raise self.error(key, "an integer")
        return value

    def require(self, key: str, supported: object) -> None:
        """Check that a setting has the only supported value.

        Raises:
            CheckpointError: it has another.
        """
        if self[key] != supported:
            raise self.error(key, f"{supported!r}, the only supported value")

    def error(self, key: str, expected: str) -> CheckpointError:
        """Return the error for a setting with an unexpected value."""
        return CheckpointError(
            f"{self.path}: {key}: expected {expected}, found {self.values.get(key)!r:.60}"
        )


def clip_share(value: float) -> float:
    """Clip a setting to [0, 1]; for those that only training uses."""
    return min(1.0, max(0.0, float(value)))
