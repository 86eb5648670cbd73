"""What a case needs on a device's storage: files of its bundle, and installed packages.

What a process opened and imported is needed; the rest could be left out. Python itself and its
standard library are not counted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import w2v_edge
from w2v_edge.bundle import MANIFEST, Bundle
from w2v_edge.latency.report.machine_records import InstalledPart
from w2v_edge.providers.installation import installed_wheels

PACKAGE = "w2v-edge"
MAPS = Path("/proc/self/maps")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def installed_parts(bundle: Bundle) -> tuple[InstalledPart, ...]:
    """Return the parts of this installation, those needed by this process first.

    Args:
        bundle: what the process has run; its other files could be left out.
    """
    opened = bundle.opened
    files = [
        InstalledPart(name, "file", (bundle.folder / name).stat().st_size / 1e6, name in opened)
        for name in (MANIFEST, *bundle.manifest.files)
        if (bundle.folder / name).is_file()
    ]
    folder = Path(w2v_edge.__file__).parent
    own = sum(x.stat().st_size for x in folder.rglob("*") if x.suffix != ".pyc" and x.is_file())
    mapped = _mapped()
    packages = [
        InstalledPart(PACKAGE, "package", own / 1e6, needed=True),
        *(_package(x, mapped) for x in _dependencies([PACKAGE, "numpy", *installed_wheels()])),
    ]
    return tuple(sorted((*packages, *files), key=lambda x: (not x.needed, -x.size_mb)))


def _package(found: metadata.Distribution, mapped: set[str]) -> InstalledPart:
    """Return a distribution; it is needed if one of its modules or libraries was loaded."""
    size, needed = 0, False
    for file in found.files or []:
        path = Path(str(file.locate()))
        if file.size is not None:
            size += file.size
        elif path.is_file():
            # Compiled modules, which pip writes.
            size += path.stat().st_size
        # Private modules may be imported when Python starts, by a `.pth` file.
        if file.suffix in {".py", ".so", ".pyd"} and not (top := _module(file.parts)).startswith(
            "_"
        ):
            needed |= top in sys.modules
        if ".so" in file.name:
            needed |= str(path.resolve()) in mapped
    return InstalledPart(found.metadata["Name"], "package", size / 1e6, needed)


def _mapped() -> set[str]:
    """Return the paths of the shared libraries of this process; empty if it cannot be told."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return set()
    return {line[line.index("/") :] for line in lines if "/" in line}


def _module(parts: Sequence[str]) -> str:
    """Return the top module of a file, `a` of `a/b.py`, `a.py` and `a.cpython-311.so`."""
    return parts[0].partition(".")[0]


def _dependencies(names: Sequence[str]) -> Iterator[metadata.Distribution]:
    """Yield the installed distributions that these may use, in all extras of the first one."""
    left, seen = list(names), {_normal(PACKAGE)}
    while left:
        name = left.pop(0)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if _normal(name) not in seen:
            seen.add(_normal(name))
            yield found
        for requirement in found.requires or []:
            match = NAME.match(requirement)
            optional = "extra ==" in requirement and name != PACKAGE
            if match and not optional and _normal(match[0]) not in seen:
                left.append(match[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
