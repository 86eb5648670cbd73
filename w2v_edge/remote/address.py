"""Addresses of devices, and the command that reaches a shell there."""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from urllib.parse import urlsplit

from w2v_edge.errors import InputError

FORMS = (
    "HOST, user@host, ssh://user@host:port[/FOLDER], adb[:SERIAL], "
    "docker:IMAGE[,cpus=N][,memory=SIZE], podman:IMAGE or local"
)
PYTHONS = ("python3", *(f"python3.{minor}" for minor in (15, 14, 13, 12, 11)))
OLDEST_PYTHON = (3, 11)
NO_PYTHON = 97
"""Exit code of the start script where no Python is new enough."""

ANDROID_FOLDER = "/data/local/tmp"
"""The folder of Android where its shell may write, and run programs."""

LIMITS = ("cpus", "memory")


@dataclass(frozen=True)
class Address:
    """The address of a device.

    Attributes:
        name: the text that the user gave.
        kind: `ssh`, `adb`, `docker`, `podman` or `local`.
        host: host with user, serial number or image; empty for the only one.
        port: port of ssh; None for the one of its configuration.
        folder: folder for the work folder; None for the user's cache or home.
        limits: options of a container.
    """

    name: str
    kind: str
    host: str = ""
    port: int | None = None
    folder: str | None = None
    limits: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            InputError: it has none of the forms in `FORMS`.
        """
        kind, colon, rest = text.partition(":")
        if text == "local":
            return cls(text, "local", folder=tempfile.gettempdir())
        if kind == "adb" and bool(colon) == bool(rest):
            return cls(text, "adb", rest)
        if kind in {"docker", "podman"} and rest:
            return cls._container(text, kind, rest)
        if text.startswith("ssh://"):
            return cls._url(text)
        if re.fullmatch(r"[^\s:/-][^\s:/]*", text):
            return cls(text, "ssh", text)
        raise InputError(f"found {text!r:.80}, expected {FORMS}")

    @classmethod
    def _container(cls, text: str, kind: str, rest: str) -> Address:
        image, *limits = rest.split(",")
        options = [f"--{limit}" for limit in limits]
        if image.startswith("-") or any(x.partition("=")[0] not in LIMITS for x in limits):
            raise InputError(f"found {text!r:.80}, expected {kind}:IMAGE[,cpus=N][,memory=SIZE]")
        return cls(text, kind, image, limits=tuple(options))

    @classmethod
    def _url(cls, text: str) -> Address:
        expected = "expected ssh://user@host:port[/FOLDER]"
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InputError(f"found {text!r:.80} ({error}), {expected}") from error
        user = "" if parts.username is None else f"{parts.username}@"
        if not host or f"{user}{host}".startswith("-") or parts.password or parts.query:
            raise InputError(f"found {text!r:.80}, {expected}")
        folder = None if parts.path in {"", "/"} else parts.path
        return cls(text, "ssh", f"{user}{host}", port, folder)

    def command(self, start: str, ssh: str = "ssh") -> list[str]:
        """Return the command that runs the script `start` in a POSIX shell of the device.

        Args:
            start: the script.
            ssh: command of ssh, with options.
        """
        # The login shell may be another one than a POSIX shell.
        remote = f"exec sh -c {shlex.quote(start)}"
        if self.kind == "ssh":
            port = [] if self.port is None else ["-p", str(self.port)]
            return [*shlex.split(ssh), *port, self.host, remote]
        if self.kind == "adb":
            serial = ["-s", self.host] if self.host else []
            # Without a terminal, adb passes all bytes unchanged.
            return ["adb", *serial, "shell", remote]
        if self.kind == "local":
            return ["sh", "-c", start]
        options = ["--rm", "-i", "--network", "none", *self.limits, "--entrypoint", "sh"]
        return [self.kind, "run", *options, self.host, "-c", start]

    def start_script(self, size: int, use: str | None) -> str:
        """Return the script that starts the agent with the first Python that is new enough.

        The agent's source of `size` bytes comes on standard input; not a byte after it is read.

        Args:
            size: of the source.
            use: the Python to start; None for the first one of `PYTHONS` on the path.
        """
        # No quote within the Python code, no exclamation mark: csh and fish read them otherwise.
        code = f"import os; exec(bytes().join(os.read(0, 1) for _ in range({size})))"
        check = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
        pythons = " ".join(_quoted(use) for use in self._pythons(use))
        return (
            f'for p in {pythons}; do "$p" -c "{check}" </dev/null >/dev/null 2>&1 '
            f'&& exec "$p" -I -u -c "{code}"; done; '
            f'for p in {pythons}; do "$p" -V </dev/null 2>/dev/null && break; done; '
            f"exit {NO_PYTHON}"
        )

    def _pythons(self, use: str | None) -> tuple[str, ...]:
        if use is not None:
            return (use,)
        if self.kind == "local":
            return (sys.executable,)
        return (*PYTHONS, f"{ANDROID_FOLDER}/python/bin/python3") if self.kind == "adb" else PYTHONS


def _quoted(path: str) -> str:
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)
