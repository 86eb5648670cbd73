"""The pip command that installs extras of this package, as errors and `doctor` name it."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

DISTRIBUTION = "w2v-edge"


def install_command(*extras: str) -> str:
    """Return the pip command for extras: from the package's folder, if it was installed from one.

    Args:
        extras: names of the package's extras.
    """
    checkout = _checkout()
    folder, editable = (checkout, True) if checkout else (_installed_from(), False)
    name = DISTRIBUTION
    if folder is not None:
        name = "." if _is_here(folder) else str(folder)
    what = f"{name}[{','.join(extras)}]"
    quoted = shlex.quote(what) if "'" in what else f"'{what}'"
    return f"pip install {'-e ' * editable}{quoted}"


def with_commands(text: str) -> str:
    """Return an instruction in which `{EXTRA}` is replaced by the pip command of that extra."""
    return text.format_map(_Commands())


class _Commands(dict[str, str]):
    def __missing__(self, extra: str) -> str:
        return install_command(extra)


def _is_here(folder: Path) -> bool:
    try:
        return folder == Path.cwd()
    except OSError:
        # The working directory was removed.
        return False


def _checkout() -> Path | None:
    """Return the checkout whose files are running: installed with `-e`, or on the path."""
    root = Path(__file__).parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "export").is_dir() else None


def _installed_from() -> Path | None:
    """Return the folder that pip copied the package from, if it is there (PEP 610)."""
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        text = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        origin = json.loads(text or "{}")
        if "dir_info" not in origin:
            return None
        folder = Path(url2pathname(urlsplit(origin["url"]).path))
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return folder if os.access(folder / "pyproject.toml", os.R_OK) else None
