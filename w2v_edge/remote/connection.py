"""The desk's side of a connection: starts the agent on a device and exchanges frames with it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2v_edge.errors import RemoteError
from w2v_edge.remote import agent
from w2v_edge.remote.address import NO_PYTHON, OLDEST_PYTHON, Address
from w2v_edge.remote.agent import (
    BEAT_SECONDS,
    CHUNK,
    MAGIC,
    MAX_FRAME,
    SILENCE_SECONDS,
    Frame,
    pack,
)

MAX_BANNER = 2**20
MAX_QUOTED = 200
END_SECONDS = 30.0
"""Time to wait for the device to remove its files."""

NO_CAUSE = re.compile(r"--help|^Warning: Permanently added")
"""Messages of docker and ssh that do not tell why a connection ended."""

# Ctrl-C in the terminal must not end ssh before the device has removed its files. ssh keeps a
# signal ignored that it finds ignored.
UNINTERRUPTED = ("sh", "-c", 'trap "" INT; exec "$@"', "sh") if os.name == "posix" else ()


class LostConnection(Exception):  # noqa: N818 - not an error that users see
    """The connection ended before its time; the message is the last one of ssh, or empty."""


class Connection:
    """A connection to an agent.

    Args:
        address: the device.
        ssh: command of ssh, with options.
        use: Python of the device to start the agent with; None for one on its path.
        stop: set when the user wants all runs to end.

    Raises:
        RemoteError: the device cannot be reached, or has no suitable Python.
    """

    def __init__(self, address: Address, ssh: str, use: str | None, stop: threading.Event) -> None:
        self.name = address.name
        self._stop = stop
        self._frames: queue.Queue[Frame | None] = queue.Queue(maxsize=64)
        self._writing = threading.Lock()
        self._closed = threading.Event()
        self._complaints: list[str] = []
        self._banner = b""
        self._farewell: dict[str, Any] = {}
        self._heard = time.monotonic()
        source = Path(agent.__file__).read_bytes()
        command = address.command(address.start_script(len(source), use), ssh)
        if shutil.which(command[0]) is None:
            raise RemoteError(f"{self.name}: {command[0]!r} is not installed here")
        self._process = subprocess.Popen(  # noqa: S603 - the user's own ssh command
            [*UNINTERRUPTED, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._read, self._listen, self._beat)
        ]
        for thread in self._threads:
            thread.start()
        try:
            self._write(source)
            self._await_agent(use)
        except BaseException as error:
            # Also those of `_await_agent`, and Ctrl-C.
            with contextlib.suppress(LostConnection):
                self.close()
            if isinstance(error, LostConnection):
                why = str(error) or "the command ended without a word"
                raise RemoteError(f"{self.name}: cannot connect: {why}") from error
            raise

    def send(self, op: str, **arguments: Any) -> None:
        """Send a request that has no reply."""
        self._write(pack(b"J", json.dumps({"op": op} | arguments).encode()))

    def send_data(self, content: bytes) -> None:
        """Send a part of a file."""
        self._write(pack(b"D", content))

    def ask(self, op: str, **arguments: Any) -> Any:
        """Send a request and return the reply.

        Raises:
            RemoteError: the device refuses it.
            LostConnection: it is gone.
            KeyboardInterrupt: the user wants the run to end.
        """
        self.send(op, **arguments)
        for message in self.messages():
            if "reply" in message:
                return message["reply"]
        raise LostConnection(self._last_words())

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the device says, except beats; errors as for `ask`."""
        while True:
            kind, content = self._next()
            if kind != b"J":
                continue
            message: dict[str, Any] = json.loads(content)
            if "error" in message:
                raise RemoteError(f"{self.name}: {_clean(message['error'])}")
            if "beat" not in message:
                yield message

    def data(self) -> bytes:
        """Return the next part of a file or of a verb's output; errors as for `ask`."""
        kind, content = self._next()
        while kind != b"D":
            kind, content = self._next()
        return content

    def close(self) -> str | None:
        """End the run and return the folder that remains on the device; None for nothing.

        Raises:
            LostConnection: the device did not answer.
        """
        self._closed.set()
        if MAGIC not in self._banner:
            # Nothing runs there yet, and ssh may wait for a device that is off.
            self._process.kill()
        with contextlib.suppress(OSError):
            if self._writing.acquire(timeout=END_SECONDS):
                self._process.stdin.write(pack(b"J", b'{"op": "bye"}'))  # type: ignore[union-attr]
        self._process.stdin.close()  # type: ignore[union-attr]
        deadline = time.monotonic() + END_SECONDS
        while self._threads[0].is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._frames.get(timeout=0.05)
        try:
            self._process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads[:2]:
            thread.join(1)
        for stream in (self._process.stdout, self._process.stderr):
            stream.close()  # type: ignore[union-attr]
        if "bye" not in self._farewell:
            raise LostConnection(self._last_words())
        left: str | None = self._farewell["left"]
        return left

    def kill(self) -> None:
        """End the connection at once: the device notices it and removes the files by itself."""
        self._process.kill()

    def _await_agent(self, use: str | None) -> None:
        try:
            self._next()
        except LostConnection:
            # The device's shell may have found no Python to start.
            if self._process.wait() != NO_PYTHON:
                raise
        else:
            return
        said = self._banner.decode(errors="replace").strip().splitlines()
        oldest = ".".join(map(str, OLDEST_PYTHON))
        found = _clean(said[-1]) if said and said[-1].startswith("Python") else "no Python"
        where = f" at {use}" if use else ""
        raise RemoteError(
            f"{self.name}: found {found}{where}, expected Python {oldest} or newer; install it "
            "there, or name another one with --use PYTHON"
        )

    def _next(self) -> Frame:
        """Return the next frame; errors as for `ask`."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                frame = self._frames.get(timeout=0.2)
                if frame is None:
                    self._frames.put(None)
                    raise LostConnection(self._last_words())
                return frame
            self._check_heard()
        raise KeyboardInterrupt

    def _write(self, data: bytes) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        try:
            with self._writing:
                while data:
                    written = self._process.stdin.write(data)  # type: ignore[union-attr]
                    data = data[written or 0 :]
        except (OSError, ValueError) as error:
            self._raise_refusal()
            raise LostConnection(self._last_words()) from error

    def _raise_refusal(self) -> None:
        """Raise the error that the device sent before it closed the connection."""
        with contextlib.suppress(LostConnection):
            for _ in self.messages():
                pass

    def _read(self) -> None:
        """Put the device's frames into the queue; `M` is the agent's first sign."""
        stream = self._process.stdout
        assert stream is not None
        with contextlib.suppress(OSError, ValueError, EOFError):
            while MAGIC not in self._banner:
                part = stream.read(1)
                if not part or len(self._banner) > MAX_BANNER:
                    raise EOFError
                self._banner += part
            self._frames.put((b"M", b""))
            while True:
                kind, size = struct.unpack(">cI", self._read_exactly(5))
                frame = kind, self._read_exactly(min(size, MAX_FRAME))
                if kind == b"J" and b'"bye"' in frame[1]:
                    self._farewell = json.loads(frame[1])
                self._frames.put(frame)
        self._frames.put(None)

    def _read_exactly(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._process.stdout.read(min(size, CHUNK))  # type: ignore[union-attr]
            if not part:
                raise EOFError
            self._heard = time.monotonic()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _listen(self) -> None:
        """Keep the last lines of ssh's own messages."""
        stream = self._process.stderr
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):
            rest = b""
            while part := stream.read(4096):
                *lines, rest = (rest + part).replace(b"\r", b"\n").split(b"\n")
                texts = (line.decode(errors="replace").strip() for line in [*lines, rest])
                self._complaints = [*self._complaints, *filter(None, texts)][-20:]

    def _beat(self) -> None:
        """Show the device that the desk is there, and end the connection if the device is not."""
        while not self._closed.wait(BEAT_SECONDS):
            self._check_heard()
            # While a file is sent the device hears enough.
            if MAGIC in self._banner and self._writing.acquire(blocking=False):
                try:
                    with contextlib.suppress(OSError, ValueError):
                        beat = pack(b"J", b'{"op": "beat"}')
                        self._process.stdin.write(beat)  # type: ignore[union-attr]
                finally:
                    self._writing.release()

    def _check_heard(self) -> None:
        """End a connection whose device is silent. Before, ssh may wait for a password."""
        if MAGIC in self._banner and time.monotonic() - self._heard > SILENCE_SECONDS:
            self._complaints.append(f"no sign of the device for {SILENCE_SECONDS:g} s")
            self._process.kill()

    def _last_words(self) -> str:
        """Return the last message of ssh, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._threads[1].join(2)
        said = [line for line in self._complaints if not NO_CAUSE.search(line)]
        return _clean(said[-1]) if said else ""


def _clean(text: str) -> str:
    """Return a device's text on one line, without characters that would steer a terminal."""
    line = " ".join(text.split())
    return "".join(x if x.isprintable() else "?" for x in line)[:MAX_QUOTED]
