"""onnxruntime's C header of Debian 13, unpacked: python -m tests.apps.header FOLDER.

The exit code tells whether this machine can be given it; nothing is installed, no root is needed.
Libraries of later releases work with it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.emulated import debian

INCLUDE = Path("header/usr/include/onnxruntime")


def unpack(folder: Path) -> Path:
    """Unpack the header into `folder`, unless it is there; return the folder to include."""
    folder = folder.resolve()
    if not (folder / INCLUDE).is_dir():
        debian.update(folder, release="trixie")
        debian.unpack(folder, "header", "libonnxruntime-dev:amd64", dependencies=False)
    return folder / INCLUDE


if __name__ == "__main__":
    try:
        unpack(Path(sys.argv[1]))
    except subprocess.CalledProcessError as failed:
        sys.exit(f"apt cannot read Debian's packages: {failed}")
