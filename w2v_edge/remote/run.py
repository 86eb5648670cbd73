"""The life of one run of a verb on a device: lock, copy, run, pull the results, clean up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from w2v_edge.errors import BudgetError, ParityError, RegressionError, RemoteError, W2VEdgeError
from w2v_edge.files import cache_folder, replacing
from w2v_edge.remote.address import Address
from w2v_edge.remote.connection import Connection, LostConnection
from w2v_edge.remote.environment import INSTALL_BYTES, download, own_wheel, unpacked_size
from w2v_edge.remote.known import remember
from w2v_edge.remote.transfer import Tree, missing, send

ERRORS: dict[int, type[W2VEdgeError]] = {3: ParityError, 4: RegressionError, 5: BudgetError}
"""Errors of a verb by its exit code; others are `RemoteError`."""


@dataclass(frozen=True)
class Means:
    """How to reach a device and run there.

    Attributes:
        ssh: command of ssh, with options.
        use: Python of the device whose packages are used; None for a private environment.
        keep: whether copied files and the environment stay there.
    """

    ssh: str = "ssh"
    use: str | None = None
    keep: bool = False


@dataclass(frozen=True)
class RemoteCall:
    """A verb to run on a device.

    Attributes:
        arguments: the verb and its arguments; an input is named by its path in `inputs`.
        inputs: copied files, by their path in the working folder there.
        outputs: local files or folders to write, by their path in the working folder there.
        extras: extras of this package that the verb needs.
    """

    arguments: Sequence[str]
    inputs: Mapping[str, Tree] = field(default_factory=dict)
    outputs: Mapping[str, Path] = field(default_factory=dict)
    extras: Sequence[str] = ("cpu", "cli")


class Listener(Protocol):
    """Called during a run."""

    def stage(self, text: str) -> None:
        """Tell that a stage begins."""
        ...

    def copied(self, name: str, there: int, size: int) -> None:
        """Tell how many bytes of a tree are there."""
        ...

    def output(self, stream: str, content: bytes) -> None:
        """Give what the verb printed on `out` or `err`."""
        ...


def run_on(
    address: Address,
    call: RemoteCall,
    means: Means,
    listener: Listener,
    stop: threading.Event,
    opened: Callable[[Connection], None] = lambda _: None,
) -> None:
    """Run a verb on a device and write its outputs here.

    Nothing remains on the device, unless `means.keep` or a copy that broke off.

    Args:
        address: the device.
        call: the verb.
        means: how to reach the device.
        listener: gets progress and the verb's output.
        stop: when it is set, the run ends and its files are removed.
        opened: called with the connection, to be killed if the device does not answer.

    Raises:
        RemoteError: the device cannot be reached or used, or the verb failed there.
        ParityError: the verb's exit code says so; so for other errors with a code of their own.
        KeyboardInterrupt: `stop` was set.
    """
    connection = Connection(address, means.ssh, means.use, stop)
    opened(connection)
    run = _Run(connection, call, means, listener)
    problem: BaseException | None = None
    try:
        run.go(address)
    except LostConnection as error:
        problem = RemoteError(run.lost(str(error)))
    except BaseException as error:  # noqa: BLE001 - raised below, once the connection is closed
        problem = error
    try:
        left = connection.close()
    except LostConnection as error:
        left = None
        if isinstance(problem, KeyboardInterrupt):
            doubt = f"warning: {address.name}: did not confirm that its files are removed\n"
            listener.output("err", doubt.encode())
        problem = problem or RemoteError(run.lost(str(error)))
    if problem is not None:
        raise problem
    if left is not None:
        listener.stage(f"kept in {left}")


class _Run:
    """One run; `stage` tells where it is."""

    def __init__(
        self, connection: Connection, call: RemoteCall, means: Means, listener: Listener
    ) -> None:
        self._connection = connection
        self._call = call
        self._means = means
        self._listener = listener
        self._stage = "connecting"
        self._copied = False
        self._folder = ""

    def go(self, address: Address) -> None:
        """Do everything but cleaning up."""
        facts = self._connection.ask(
            "hello", folder=address.folder, owner=_owner(), keep=self._means.keep
        )
        self._folder = str(facts["folder"])
        remember(address.name, facts)
        python, package = self._copy(facts)
        self._begin("running", f"runs {self._call.arguments[0]} with Python {facts['python']}")
        command = [python, "-m", "w2v_edge", *self._call.arguments]
        error = self._run(command, {"PYTHONPATH": package})
        # Also what a verb wrote that failed for some files.
        self._stage = "pulling the results"
        for name, path in self._call.outputs.items():
            self._pull(name, path)
        if error is not None:
            raise error

    def lost(self, why: str) -> str:
        """Return the message on a lost connection, and what remains on the device."""
        message = f"{self._connection.name}: lost the connection while {self._stage}"
        if why:
            message += f": {why}"
        if self._copied:
            return f"{message}; the copy stays in {self._folder}, and the next run continues it"
        return f"{message}; the device ends the run and removes its files by itself"

    def _begin(self, stage: str, text: str) -> None:
        self._stage = stage
        self._listener.stage(text)

    def _copy(self, facts: dict[str, Any]) -> tuple[str, str]:
        """Copy what the device lacks; return its Python and the folder of this package."""
        cache = (cache_folder() or Path.cwd() / ".w2v-edge") / "devices"
        packed = own_wheel(cache)
        package = Tree("package", {f"package/{packed.name}": packed})
        unpacked = [("packages", package, [packed])]
        if self._means.use is None:
            self._begin("choosing wheels", f"wheels for Python {facts['python']} are looked up")
            try:
                wheels = download(facts, self._call.extras, cache)
            except RemoteError as error:
                raise RemoteError(f"{self._connection.name}: {error}") from error
            tree = Tree("wheels", {f"wheels/{wheel.name}": wheel for wheel in wheels})
            unpacked.append(("environments", tree, wheels))
        needed, lacking, fresh = 0, [], []
        for kind, tree, wheels in unpacked:
            if not self._connection.ask("unpacked", tree=tree.id, kind=kind):
                fresh.append((kind, tree))
                needed += unpacked_size(wheels)
        for tree in (*(tree for _, tree in fresh), *self._call.inputs.values()):
            files = missing(self._connection, tree)
            lacking.append((tree, files))
            needed += sum(tree.described[name][0] - have for name, have in files.items())
        self._check_room(needed + INSTALL_BYTES, facts["free"])
        for tree, files in lacking:
            if files:
                self._stage, self._copied = f"copying {tree.name}", True
                send(self._connection, tree, files, self._listener.copied)
        self._stage = "unpacking packages"
        found = {
            kind: self._connection.ask("unpack", tree=tree.id, name=tree.name, kind=kind)
            for kind, tree, _ in unpacked
        }
        return found.get("environments", facts["executable"]), found["packages"]

    def _check_room(self, needed: int, free: int) -> None:
        if needed > free:
            raise RemoteError(
                f"{self._connection.name}: found {free / 1e6:.0f} MB free in {self._folder}, "
                f"expected {needed / 1e6:.0f} MB; make room, or name another folder: "
                "ssh://HOST/FOLDER"
            )

    def _run(self, command: list[str], environment: dict[str, str]) -> W2VEdgeError | None:
        """Run the verb to its end, forward what it prints but an error, and return the error."""
        self._copied = False
        links = {path: (tree.id, tree.name) for path, tree in self._call.inputs.items()}
        self._connection.send("run", command=command, links=links, environment=environment)
        errors = _Lines(self._listener)
        for message in self._connection.messages():
            if "exit" in message:
                break
            content = self._connection.data()
            if message["stream"] == "err":
                errors.take(content)
            else:
                self._listener.output("out", content)
        code, problem = message["exit"], errors.end()
        if code == 0:
            return None
        reason = problem or f"exit code {code}"
        if code < 0:
            reason = f"the verb was killed by signal {-code} (out of memory?)"
        return ERRORS.get(code, RemoteError)(f"{self._connection.name}: {reason}")

    def _pull(self, name: str, path: Path) -> None:
        self._connection.send("pull", path=name)
        for message in self._connection.messages():
            if "reply" in message:
                return
            inner = PurePosixPath(message["file"])
            if inner.is_absolute() or ".." in inner.parts:
                raise RemoteError(f"{self._connection.name}: sent a file outside {name}")
            self._receive(path / inner if message["file"] else path, message["size"])

    def _receive(self, path: Path, size: int) -> None:
        with replacing(path) as temporary, temporary.open("wb") as stream:
            while size > 0:
                content = self._connection.data()
                stream.write(content)
                size -= len(content)


class _Lines:
    """Forwards whole lines of stderr, but not the last one if it is that of an error."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._rest = b""

    def take(self, content: bytes) -> None:
        """Forward the lines before the last one."""
        *lines, last = (self._rest + content).rstrip(b"\n").split(b"\n")
        ended = content.endswith(b"\n")
        for line in lines:
            self._listener.output("err", line + b"\n")
        self._rest = last + b"\n" * ended

    def end(self) -> str:
        """Return the message of the error; other text is forwarded."""
        text = self._rest.decode(errors="replace").strip()
        # Usage errors are click's.
        if text.lower().startswith("error: "):
            return text[len("error: ") :]
        if text:
            self._listener.output("err", self._rest)
        return ""


def _owner() -> str:
    import getpass
    import platform

    try:
        return f"{getpass.getuser()} at {platform.node()}"
    except (KeyError, OSError):
        return platform.node() or sys.platform
