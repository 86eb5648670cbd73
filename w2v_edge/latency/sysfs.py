"""Reading what the kernel shows as files: what cannot be read is nothing, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

ROOT = Path("/")
"""Of the machine's files; tests give a folder that is laid out like another machine's."""


def text(path: Path) -> str:
    """Return a file's text without blanks around it, empty where it cannot be read."""
    try:
        # A device tree ends its texts with a zero.
        return path.read_text(errors="replace").strip(" \t\r\n\0")
    except (OSError, ValueError):
        return ""


def number(path: Path) -> float | None:
    """Return the number that a file holds, None where it holds none."""
    try:
        return float(text(path))
    except ValueError:
        return None


def numbers(paths: Iterable[Path]) -> list[float]:
    """Return the numbers of those files that hold one."""
    return [value for value in map(number, paths) if value is not None]


def numbered(folder: Path, pattern: str) -> list[Path]:
    """Return the folders in one that match a pattern, by the numbers that their names end in."""
    try:
        found = list(folder.glob(pattern))
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


def is_battery(supply: Path) -> bool:
    """Tell whether a power supply is a battery of the machine, not one of its mouse."""
    return text(supply / "type") == "Battery" and text(supply / "scope") != "Device"
