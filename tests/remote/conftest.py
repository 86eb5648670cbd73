"""A device: this machine behind a real sshd on a free port, with keys and a home of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import refused, w2v_edge
from w2v_edge import data

__all__ = ["refused", "w2v_edge"]

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

ENDS_AT_ONCE = ("bench", data.TINY_INT8, "--threads", "999")
"""A run that reaches the device and ends there: no device has so many cores."""

LINK = Path(__file__).with_name("link.py")
WHOLE = 10**9
"""More bytes than any test sends."""

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv HOME={home} TMPDIR={home}/tmp
"""

UNSHARE = ("unshare", "-n", "true")
OFFLINE = 'ForceCommand unshare -n sh -c "$SSH_ORIGINAL_COMMAND"\n'


@dataclass(frozen=True)
class Device:
    """A device behind sshd.

    Attributes:
        host: name for `--on`.
        ssh: command for `--ssh`.
        home: home folder of the user there, where temporary files are too.
        port: port of sshd.
    """

    host: str
    ssh: str
    home: Path
    port: int

    @property
    def left(self) -> list[str]:
        """Files that runs left there."""
        return sorted(str(x.relative_to(self.home)) for x in self.home.rglob("*") if x.is_file())


@pytest.fixture(autouse=True)
def own_settings(settings_folder: Path) -> Path:
    """Runs remember their devices in a temporary settings folder, not in the user's."""
    # adb wants a home that exists.
    settings_folder.mkdir()
    return settings_folder


@pytest.fixture
def device(
    tmp_path: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Iterator[Device]:
    """A device with an empty home; other workers wait, as the runs of two would disturb both."""
    if SSHD is None:
        pytest.skip("no sshd; install openssh-server")
    with locked("device"):
        yield from _serve(tmp_path / "sshd")


@pytest.fixture
def offline_device(
    tmp_path: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Iterator[Device]:
    """The same, but what runs there has no network."""
    if SSHD is None:
        pytest.skip("no sshd; install openssh-server")
    if subprocess.run(UNSHARE, check=False, capture_output=True).returncode:
        pytest.skip("no network namespaces here; they need root on Linux")
    with locked("device"):
        yield from _serve(tmp_path / "sshd", OFFLINE)


@pytest.fixture
def python() -> str:
    """A Python that has the packages, for `--use`."""
    return sys.executable


def link(device: Device, log: Path, *, limit: int = WHOLE, delay: float = 0.0) -> str:
    """Return an ssh command over a link that breaks after some bytes, or is slow."""
    return f"{sys.executable} {LINK} {limit} {delay} {log} {device.ssh}"


def make_key(path: Path) -> None:
    """Write a new key of ssh."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)


def _serve(folder: Path, more: str = "") -> Iterator[Device]:
    home = folder / "home"
    (home / "tmp").mkdir(parents=True)
    for name in ("host", "user"):
        make_key(folder / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config"
    config.write_text(CONFIG.format(port=port, folder=folder, home=home) + more)
    # Debian's sshd wants it; the package makes it when the service starts.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    known = folder / "known"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    ssh = (
        f"ssh -F none -i {folder}/user -p {port} -o UserKnownHostsFile={known} "
        "-o IdentitiesOnly=yes -o BatchMode=yes"
    )
    log = folder / "log"
    with subprocess.Popen([str(SSHD), "-D", "-f", str(config), "-E", str(log)]) as server:
        try:
            _await_port(port)
            user = pwd.getpwuid(os.getuid()).pw_name
            yield Device(f"{user}@127.0.0.1", ssh, home, port)
        finally:
            server.terminate()


def _await_port(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("sshd does not listen")
