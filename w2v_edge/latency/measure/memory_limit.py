"""A limit on the memory of trials: by a control group where one can be made, else by their peaks.

A group of version 2 needs a parent that may be written and that hands the controller of memory
down, as in systemd's user services. Address space (`ulimit -v`) says nothing: onnxruntime reserves
much more than it uses.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from w2v_edge.errors import InferenceError
from w2v_edge.providers.machine import CGROUPS, MEMBERSHIP, read_text

JOIN = 'echo $$ > "$0" && exec "$@"'
"""Shell that enters the group whose file is its first word, and becomes the rest."""

VERSION_2 = "0::"
SMALLER = "use shorter audio, smaller batches or another bundle"


@dataclass(frozen=True)
class MemoryLimit:
    """A limit on the memory of each trial.

    Attributes:
        mb: the limit, in 10^6 bytes.
        group: folder of the control group; None without one.
    """

    mb: float
    group: Path | None = None

    @property
    def by(self) -> Literal["control group", "peak"]:
        """What holds trials to the limit."""
        return "peak" if self.group is None else "control group"

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before the command of a trial."""
        if self.group is None:
            return ()
        return ("/bin/sh", "-c", JOIN, str(self.group / "cgroup.procs"))

    def check(self, peak_mb: float | None) -> None:
        """Compare the peak of a trial with the limit.

        Pages of files that another process had read are not charged to a control group: so the
        peak is compared in any case.

        Raises:
            InferenceError: it is higher, or is not reported.
        """
        if peak_mb is None:
            raise InferenceError(
                "the peak memory is not reported here, so that no limit can be checked; leave out "
                "--memory-limit"
            )
        if peak_mb > self.mb:
            how = "after the trial" if self.group is None else "in a control group"
            raise InferenceError(
                f"found a peak of {peak_mb:.4g} MB, expected at most {self.mb:.4g} MB (checked "
                f"{how}); {SMALLER}"
            )

    def kills(self) -> int:
        """Return how many processes the system has killed in the control group."""
        events = read_text(self.group / "memory.events") if self.group else ""
        counts = dict(line.split() for line in events.splitlines())
        return int(counts.get("oom_kill", 0))


@contextlib.contextmanager
def limiting(
    mb: float | None, root: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> Iterator[MemoryLimit | None]:
    """Make a control group with a limit, if one can be made, and remove it at the end.

    Args:
        mb: the limit, in 10^6 bytes; None for none.
        root: where control groups are mounted.
        membership: names the groups of this process.
    """
    if mb is None:
        yield None
        return
    group = _make_group(mb, root, membership)
    try:
        yield MemoryLimit(mb, group)
    finally:
        if group is not None:
            with contextlib.suppress(OSError):
                group.rmdir()


def _make_group(mb: float, root: Path, membership: Path) -> Path | None:
    """Return a new group in the closest of this process's groups that allows one; else None."""
    lines = read_text(membership).splitlines()
    own = next((x.removeprefix(VERSION_2) for x in lines if x.startswith(VERSION_2)), None)
    if own is None:
        return None
    folder = root / own.lstrip("/")
    for parent in (folder, *folder.parents):
        if not parent.is_relative_to(root):
            break
        if "memory" not in read_text(parent / "cgroup.subtree_control").split():
            continue
        group = parent / f"w2v-edge-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if _set(group, mb):
            return group
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def _set(group: Path, mb: float) -> bool:
    """Set the limit of a group; return whether processes can enter it."""
    try:
        (group / "memory.max").write_text(str(int(mb * 1e6)))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
        command = [*MemoryLimit(mb, group).prefix, "true"]
        entered = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own
    except OSError:
        return False
    return not entered.returncode
