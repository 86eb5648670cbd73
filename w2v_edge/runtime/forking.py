"""Sessions after a fork: a child process may not use those of its parent, nor close them.

A fork copies the memory, but only the thread that called it: running a session would wait for
threads that do not exist in the child, and so would closing it, which joins them. Locks that other
threads held stay locked for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from w2v_edge.errors import ProviderError
from w2v_edge.providers.table import TABLE


class Forked(Protocol):
    """An object that starts anew in a forked child."""

    def after_fork(self) -> None:
        """Abandon the parent's sessions."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_lost: set[str] = set()
"""Wheels whose driver or process-wide threads were in use at the fork."""


def watch(opener: Forked) -> None:
    """Call `after_fork` in every forked child."""
    _watched.add(opener)


def abandon(provider: str | None, sessions: Sequence[Any]) -> None:
    """Prevent a parent's sessions from ever being closed in this process."""
    if provider is not None and not TABLE[provider].forks:
        _lost.add(TABLE[provider].wheel)
    for session in sessions:
        # A reference that is never dropped, not even at interpreter exit.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    if sessions:
        _end_without_destructors()


def check(provider: str) -> None:
    """Check that a provider can still be used after a fork.

    Raises:
        ProviderError: the parent had it open, and it cannot be opened again here.
    """
    if TABLE[provider].wheel in _lost and not TABLE[provider].forks:
        raise ProviderError(
            f"provider {provider!r} was open when this process was forked, and does not work in "
            "the child; start processes with multiprocessing's 'spawn', or load there first"
        )


def _end_without_destructors() -> None:
    """Have this process end by `_exit`, once Python has finished and flushed.

    Destructors of libraries may wait for threads for ever: those of onnxruntime 1.32 do for that
    of its telemetry, where that is on. What Python runs as it ends still runs, and the exit code
    is kept: `on_exit` hands it to `_exit`.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # where the C library has no on_exit
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # noqa: SLF001 - C's name


def _after_fork_in_child() -> None:
    for opener in list(_watched):
        opener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
