"""Wheels from a folder, whole or in parts: python -m bench.gpu.wheels FOLDER TARGET.

`NAME.whl.part-00`, `NAME.whl.part-01` and so on, as `split` makes them, become `NAME.whl` in
TARGET; whole wheels are linked there. Only Python is needed: nothing is installed yet.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from pathlib import Path

PART = re.compile(r"(?P<wheel>.+\.whl)\.part-?(?P<number>\w+)")


def assemble(folder: Path, target: Path) -> list[Path]:
    """Put the wheels of a folder into another one, and return them.

    Args:
        folder: of wheels and parts of wheels; none if it does not exist.
        target: made if it does not exist; wheels of the same name are replaced.

    Raises:
        ValueError: the parts of a wheel are not a whole one.
    """
    target.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.whl*")):
        part = PART.fullmatch(path.name)
        name = part["wheel"] if part else path.name
        if part or path.suffix == ".whl":
            parts.setdefault(name, []).append(path)
    return [_joined(files, target / name) for name, files in parts.items()]


def _joined(parts: list[Path], path: Path) -> Path:
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, ValueError, OSError):
        damaged = path.name
    if damaged:
        path.unlink()
        names = ", ".join(part.name for part in parts)
        raise ValueError(f"{path.name}: damaged, or parts are missing; found {names}")
    return path


if __name__ == "__main__":
    try:
        for wheel in assemble(Path(sys.argv[1]), Path(sys.argv[2])):
            print(wheel)
    except ValueError as error:
        sys.exit(f"error: {error}")
