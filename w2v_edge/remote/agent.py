"""The device's side of a run: standard Python, in one file however long, as it is sent there.

It reads requests on standard input and answers on standard output, in frames: a kind, a length of
four bytes, and content. `J` is a JSON object, `D` a part of a file or of a verb's output. The end
of standard input, or a silence of `SILENCE_SECONDS`, ends the verb that runs and removes its files:
a lost connection leaves no process behind.

Under the work folder:

    inputs/ID/NAME/...  copied files; ID is a hash of their names and contents, `.part` incomplete
    packages/ID/        the package w2v_edge, unpacked
    environments/ID/    a virtual environment with numpy, onnxruntime, and what the verbs need
    run/                working folder of the verb
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

MAGIC = b"\nw2v-edge agent 1\n"
"""First output: what a login shell printed before it is skipped."""

BEAT_SECONDS = 15.0
SILENCE_SECONDS = 120.0
"""A connection without a frame for so long is lost; both sides send a beat when idle."""

CHUNK = 2**16
MAX_FRAME = 2**26
STOP_SECONDS = 5.0
"""Time between SIGTERM and SIGKILL for a verb that is ended."""

LOCK_SECONDS = 3.0
"""Time to wait for the lock: the last run may be about to end."""

Frame = tuple[bytes, bytes]


def pack(kind: bytes, content: bytes) -> bytes:
    """Return a frame as bytes."""
    return kind + struct.pack(">I", len(content)) + content


class Agent:
    """Does what the desk asks for."""

    def __init__(self) -> None:
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._folder = Path()
        self._lock: tuple[int, Path] | None = None
        self._verb: subprocess.Popen[bytes] | None = None
        self._keep = self._started = False

    def serve(self) -> None:
        """Answer requests until the desk says goodbye, or is lost."""
        os.write(1, MAGIC)
        threading.Thread(target=self._beat, daemon=True).start()
        orderly = True
        try:
            while (request := self._request())["op"] != "bye":
                if request["op"] != "beat":
                    arguments = {key: value for key, value in request.items() if key != "op"}
                    reply = getattr(self, f"do_{request['op']}")(**arguments)
                    if reply is not None:
                        self._send({"reply": reply})
        except EOFError:
            orderly = False
        except Refusal as refusal:
            self._send({"error": str(refusal)})
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            where = f" in {self._folder}" if full else f" ({error.filename})" * bool(error.filename)
            self._send({"error": f"{error.strerror or error}{where}"})
        finally:
            self._ended.set()
            self._end(orderly=orderly)

    def do_hello(self, folder: str | None, owner: str, *, keep: bool) -> dict[str, Any]:
        """Take the device's lock and return facts about the device."""
        self._keep = keep
        self._take_lock(owner)
        self._folder = _work_folder(folder)
        # Only a run that was killed can have left it: the lock is held.
        shutil.rmtree(self._folder / "run", ignore_errors=True)
        return facts() | {
            "folder": str(self._folder),
            "free": shutil.disk_usage(self._folder).free,
        }

    def do_check(self, tree: str, files: dict[str, tuple[int, str]]) -> dict[str, int]:
        """Return the files that are incomplete here, with the number of bytes that are here."""
        missing = {}
        for name, (size, sha256) in files.items():
            path = self._input(tree, name)
            if path.is_file() and path.stat().st_size == size and _sha256(path) == sha256:
                continue
            path.unlink(missing_ok=True)
            part = _part(path)
            missing[name] = part.stat().st_size if part.is_file() else 0
            if missing[name] >= size:
                missing[name] = 0
        return missing

    def do_put(self, tree: str, name: str, offset: int, size: int, sha256: str) -> None:
        """Receive the rest of a file; a file whose hash differs is removed."""
        path = self._input(tree, name)
        part = _part(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _digest(part) if offset else hashlib.sha256()
        with part.open("ab" if offset else "wb") as stream:
            while offset < size:
                kind, content = self._frame()
                if kind == b"J" and json.loads(content)["op"] == "beat":
                    continue
                if kind != b"D":
                    raise Refusal("the copy was broken off")
                stream.write(content)
                # A lost connection keeps what arrived.
                stream.flush()
                digest.update(content)
                offset += len(content)
        if digest.hexdigest() == sha256:
            part.replace(path)
        else:
            part.unlink()

    def do_unpack(self, tree: str, name: str, kind: str) -> str:
        """Unpack wheels and return the folder: an environment's Python, or a package's folder."""
        target = self._folder / kind / tree
        ready = target / ".ready"
        site = target
        python = target / "bin/python"
        if kind == "environments":
            version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
            site = target / "lib" / version / "site-packages"
        if not ready.is_file():
            shutil.rmtree(target, ignore_errors=True)
            if kind == "environments":
                _make_environment(target)
            for wheel in sorted(self._input(tree, name).glob("*.whl")):
                _unpack(wheel, site)
            # They are not needed again while the unpacked files are here.
            shutil.rmtree(self._folder / "inputs" / tree)
            ready.touch()
        return str(python if kind == "environments" else target)

    def do_unpacked(self, tree: str, kind: str) -> bool:
        """Return whether wheels were unpacked before."""
        return (self._folder / kind / tree / ".ready").is_file()

    def do_run(
        self, command: list[str], links: dict[str, tuple[str, str]], environment: dict[str, str]
    ) -> None:
        """Start a verb in its working folder, where inputs have the names of `links`."""
        run = self._folder / "run"
        temporary = run / ".tmp"
        temporary.mkdir(parents=True)
        for link, (tree, name) in links.items():
            _inside(run, link).parent.mkdir(parents=True, exist_ok=True)
            _inside(run, link).symlink_to(self._input(tree, name))
        given = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
        given |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        self._started = True
        self._verb = subprocess.Popen(  # noqa: S603 - the verb of the desk's user
            command,
            cwd=run,
            env=given | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        threading.Thread(target=self._watch, args=(self._verb,), daemon=True).start()

    def do_pull(self, path: str) -> dict[str, Any]:
        """Send a file, or all files of a folder, of the working folder."""
        root = _inside(self._folder / "run", path)
        files = [root] if root.is_file() else sorted(x for x in root.rglob("*") if x.is_file())
        for file in files:
            name = "" if file == root else file.relative_to(root).as_posix()
            self._send({"file": name, "size": file.stat().st_size})
            with file.open("rb") as stream:
                while content := stream.read(CHUNK):
                    self._write(b"D", content)
        return {"files": len(files)}

    def _watch(self, verb: subprocess.Popen[bytes]) -> None:
        """Forward the output of a verb, and its exit code."""
        pumps = [
            threading.Thread(target=self._pump, args=(name, stream), daemon=True)
            for name, stream in (("out", verb.stdout), ("err", verb.stderr))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        self._send({"exit": verb.wait()})

    def _pump(self, name: str, stream: Any) -> None:
        while content := os.read(stream.fileno(), CHUNK):
            with self._sending:
                self._raw(pack(b"J", json.dumps({"stream": name}).encode()) + pack(b"D", content))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._send({"beat": True})

    def _take_lock(self, owner: str) -> None:
        """Take the device's lock, a file that the system unlocks when this process ends.

        Raises:
            Refusal: another run holds it.
        """
        # The desk imports this module too, on systems without it.
        import fcntl

        path = Path(_temporary_folder()) / "w2v-edge.lock"
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                os.fchmod(held, 0o666)
            except FileExistsError:
                try:
                    held = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                except FileNotFoundError:
                    continue
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                who = _printable(os.read(held, 300).decode(errors="replace"))
                os.close(held)
                if time.monotonic() > deadline:
                    raise Refusal(f"in use {who}; try again when it is done") from error
                time.sleep(0.2)
                continue
            # The last owner may have removed the file between our opening and locking it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), path.stat()):
                    self._lock = held, path
                    break
            os.close(held)
        os.ftruncate(held, 0)
        now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        os.write(held, f"by {owner} since {now} (process {os.getpid()})".encode()[:300])

    def _end(self, *, orderly: bool) -> None:
        """End the verb, remove the files and the lock, and say what is left."""
        if self._verb is not None:
            _stop(self._verb)
        if self._lock is None:
            return
        shutil.rmtree(self._folder / "run", ignore_errors=True)
        # A copy that broke off is continued by the next run.
        broken = not orderly and not self._started
        if not self._keep:
            unneeded = ("packages", "environments", *(() if broken else ("inputs",)))
            for name in unneeded:
                shutil.rmtree(self._folder / name, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
        held, path = self._lock
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(held)
        left = str(self._folder) if self._folder.exists() else None
        self._send({"bye": True, "left": left})

    def _input(self, tree: str, name: str) -> Path:
        return _inside(self._folder / "inputs" / tree, name)

    def _request(self) -> dict[str, Any]:
        _, content = self._frame()
        found: dict[str, Any] = json.loads(content)
        return found

    def _frame(self) -> Frame:
        head = _read(5)
        (size,) = struct.unpack(">I", head[1:])
        if size > MAX_FRAME:
            raise EOFError
        return head[:1], _read(size)

    def _send(self, message: dict[str, Any]) -> None:
        self._write(b"J", json.dumps(message).encode())

    def _write(self, kind: bytes, content: bytes) -> None:
        with self._sending:
            self._raw(pack(kind, content))

    def _raw(self, data: bytes) -> None:
        # The desk may be gone: the end of standard input says so too.
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(1, data) :]


class Refusal(Exception):  # noqa: N818 - a message to the desk
    """A request that cannot be met, in one line."""


def facts() -> dict[str, Any]:
    """Return the device's processor, system and Python, for the choice of wheels and for users."""
    libc, version = platform.libc_ver()
    return {
        "system": "Android" if hasattr(sys, "getandroidapilevel") else platform.system(),
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "libc": "musl" if list(Path("/lib").glob("ld-musl-*")) else libc,
        "libc_version": version,
        "macos": platform.mac_ver()[0],
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "abi_flags": getattr(sys, "abiflags", ""),
        "executable": sys.executable,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "host": platform.node(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "Hardware"}:
                return value.strip()
    return platform.processor() or platform.machine()


def _work_folder(given: str | None) -> Path:
    """Make and return the work folder, in a folder that exists.

    By default that is one of the user's: temporary folders are often in memory, or forbid programs.
    """
    home = os.environ.get("HOME", "")
    cache = os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache" * bool(home)
    places = (cache, home, _temporary_folder())
    problem: OSError | None = None
    for place in [given] if given else filter(None, places):
        folder = Path(place) / f"w2v-edge-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            problem = error
            continue
        found = folder.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise Refusal(f"{folder} belongs to another user; name another folder")
        return folder
    assert problem is not None
    raise problem


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        # Android's shell has no /tmp.
        return "/data/local/tmp"


def _make_environment(target: Path) -> None:
    command = [sys.executable, "-I", "-m", "venv", "--without-pip", "--symlinks", str(target)]
    done = subprocess.run(  # noqa: S603 - the same Python
        command, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Refusal(f"{sys.executable} -m venv failed: {''.join(last)}")


def _unpack(wheel: Path, site: Path) -> None:
    """Install a wheel without its scripts: a zip file, some of it in folders of `NAME.data`."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for moved in (*site.glob("*.data/purelib"), *site.glob("*.data/platlib")):
        shutil.copytree(moved, site, dirs_exist_ok=True)
    for data in site.glob("*.data"):
        shutil.rmtree(data)


def _stop(verb: subprocess.Popen[bytes]) -> None:
    """End a verb and all its processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(verb.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            verb.wait(STOP_SECONDS)


def _read(size: int) -> bytes:
    """Read exactly `size` bytes of standard input.

    Raises:
        EOFError: it ended, or was silent for too long.
    """
    parts = []
    while size:
        ready, _, _ = select.select([0], [], [], SILENCE_SECONDS)
        part = os.read(0, min(size, CHUNK)) if ready else b""
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _inside(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(folder / name))
    if path == folder or folder not in path.parents:
        raise Refusal(f"{name!r} is outside the work folder")
    return path


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _digest(path: Path) -> Any:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256")


def _sha256(path: Path) -> str:
    return str(_digest(path).hexdigest())


def _printable(text: str) -> str:
    return "".join(x if x.isprintable() else "?" for x in text)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    Agent().serve()
