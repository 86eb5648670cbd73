"""A daemon that speaks as Android's adbd does over TCP, as far as `adb shell` needs it.

After AOSP's protocol.txt and shell_protocol.h: messages of six words and data; a stream carries a
shell, whose packets are standard input (0), output (1), errors (2), the exit code (3) and the end
of standard input (4). There is no authentication.
"""

from __future__ import annotations

import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

CNXN, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(x, "little") for x in b"CNXN OPEN OKAY CLSE WRTE".split()
)
VERSION, MAX_DATA = 0x01000001, 2**18
BANNER = b"device::ro.product.name=emulated;ro.product.model=emulated;features=shell_v2,cmd"
MINE = 1
"""Number of the only stream of this side."""

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


@dataclass
class Shell:
    """A stream with a shell.

    Attributes:
        theirs: number of the stream on the other side.
        process: the shell.
        received: standard input packets that are not complete.
        ready: an item for each message that may be sent: each waits for an answer.
    """

    theirs: int
    process: subprocess.Popen[bytes]
    received: bytes = b""
    ready: queue.Queue[None] = field(default_factory=queue.Queue)


class Adbd:
    """Serves one connection of an adb server after the other.

    Args:
        environment: of the shells.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                _Transport(connection, self._environment).run()


class _Transport:
    def __init__(self, connection: socket.socket, environment: dict[str, str]) -> None:
        self._connection = connection
        self._environment = environment
        self._sending = threading.Lock()
        self._shell: Shell | None = None

    def run(self) -> None:
        stream = self._connection.makefile("rb")
        while len(head := stream.read(24)) == 24:
            command, theirs, _, size, _, _ = struct.unpack("<6I", head)
            data = stream.read(size)
            if command == CNXN:
                self._send(CNXN, VERSION, MAX_DATA, BANNER)
            elif command == OPEN:
                self._open(theirs, data.rstrip(b"\0").decode())
            elif self._shell is None or theirs != self._shell.theirs:
                continue
            elif command == OKAY:
                self._shell.ready.put(None)
            elif command == WRTE:
                self._take(self._shell, data)
                self._send(OKAY, MINE, theirs)
            elif command == CLSE:
                self._close_input(self._shell)
        if self._shell is not None:
            self._close_input(self._shell)

    def _open(self, theirs: int, service: str) -> None:
        kind, _, text = service.partition(":")
        if not kind.startswith("shell,v2") or "raw" not in kind.split(","):
            self._send(CLSE, 0, theirs)
            return
        process = subprocess.Popen(
            ["sh", "-c", text],  # noqa: S607
            env=self._environment,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._shell = Shell(theirs, process)
        self._shell.ready.put(None)
        self._send(OKAY, MINE, theirs)
        threading.Thread(target=self._watch, args=(self._shell,), daemon=True).start()

    def _take(self, shell: Shell, data: bytes) -> None:
        shell.received += data
        while len(shell.received) >= 5:
            kind, size = struct.unpack("<BI", shell.received[:5])
            if len(shell.received) < 5 + size:
                return
            content, shell.received = shell.received[5 : 5 + size], shell.received[5 + size :]
            if kind == CLOSE_STDIN:
                self._close_input(shell)
            elif kind == STDIN:
                assert shell.process.stdin is not None
                try:
                    shell.process.stdin.write(content)
                except (BrokenPipeError, ValueError):
                    continue

    def _close_input(self, shell: Shell) -> None:
        assert shell.process.stdin is not None
        shell.process.stdin.close()

    def _watch(self, shell: Shell) -> None:
        streams = ((STDOUT, shell.process.stdout), (STDERR, shell.process.stderr))
        pumps = [threading.Thread(target=self._pump, args=(shell, *x)) for x in streams]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self._packet(shell, EXIT, bytes([shell.process.wait()]))
        self._send(CLSE, MINE, shell.theirs)

    def _pump(self, shell: Shell, kind: int, stream: IO[bytes]) -> None:
        with stream:
            while content := stream.read(2**15):
                self._packet(shell, kind, content)

    def _packet(self, shell: Shell, kind: int, content: bytes) -> None:
        shell.ready.get()
        self._send(WRTE, MINE, shell.theirs, struct.pack("<BI", kind, len(content)) + content)

    def _send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        check = sum(data) & 0xFFFFFFFF
        head = struct.pack("<6I", command, first, second, len(data), check, command ^ 0xFFFFFFFF)
        with self._sending:
            try:
                self._connection.sendall(head + data)
            except OSError:
                return
