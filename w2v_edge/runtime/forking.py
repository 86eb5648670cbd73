"""What a forked child may do with the sessions of its parent: nothing, not even close them.

A fork takes along memory, but no thread other than its own: a run would wait for threads that are
not there, and so would closing, which joins them. Locks stay as they were, held by nobody who
could let go of them.
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
    """Something that begins anew in a forked child."""

    def after_fork(self) -> None:
        """Let go of what is the parent's."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_lost: set[str] = set()
"""Wheels whose driver, or threads for the whole process, were in use when it was forked."""


def watch(opener: Forked) -> None:
    """Have `after_fork` called in every forked child."""
    _watched.add(opener)


def abandon(provider: str | None, sessions: Sequence[Any]) -> None:
    """Keep a parent's sessions from ever being closed in this process."""
    if provider is not None and not TABLE[provider].forks:
        _lost.add(TABLE[provider].wheel)
    for session in sessions:
        # A reference that nothing drops, not even the interpreter as it ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    if sessions:
        _end_without_destructors()


def check(provider: str) -> None:
    """Raise where a provider was lost with a fork.

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
