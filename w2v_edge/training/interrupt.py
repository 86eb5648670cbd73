"""Ctrl-C and SIGTERM in a training: the update that is being made is finished, and saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stop:
    """Whether somebody wants it to end."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_on_signals(*, listen: bool) -> Iterator[Stop]:
    """Yield what the first signal sets; a second one ends the process as it would have.

    Args:
        listen: whether to: processes that train together must not stop at different updates.
    """
    stop = Stop()
    if not listen or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.asked = True
        for which, handler in before.items():
            signal.signal(which, handler)

    for which in signals:
        before[which] = signal.getsignal(which)
        signal.signal(which, ask)
    try:
        yield stop
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
