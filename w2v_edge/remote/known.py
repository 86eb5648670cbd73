"""The devices that runs have reached, with what they were: a small file of the settings."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from w2v_edge import strict
from w2v_edge.errors import ConfigError, InputError
from w2v_edge.files import open_regular, replacing, settings_folder

FORMAT: Literal["w2v-edge-devices"] = "w2v-edge-devices"
VERSION: Literal[1] = 1
MAX_BYTES = 2**20

_writing = threading.Lock()


@dataclass(frozen=True)
class KnownDevice:
    """A device when it was last reached.

    Attributes:
        seen: date and time, ISO 8601, in UTC.
        host: its own name.
        processor: model name of its processor.
        machine: architecture, such as `aarch64`.
        cores: cores that a run may use.
        memory_mb: its memory, in 10^6 bytes.
        system: operating system with its C library.
        python: version of the Python that ran.
    """

    seen: str
    host: str
    processor: str
    machine: str
    cores: int
    memory_mb: float
    system: str
    python: str


@dataclass(frozen=True)
class KnownDevices:
    """Content of the file.

    Attributes:
        format: always `w2v-edge-devices`.
        version: version of the format.
        devices: the devices by their name in `--on`.
    """

    format: Literal["w2v-edge-devices"]
    version: Literal[1]
    devices: dict[str, KnownDevice]


def known_path() -> Path | None:
    """Return the path of the file; None without a home folder."""
    settings = settings_folder()
    return None if settings is None else settings / "devices.json"


def known_devices() -> dict[str, KnownDevice]:
    """Return the devices by name, the last seen first.

    Raises:
        InputError: the file is damaged.
    """
    path = known_path()
    if path is None or not path.exists():
        return {}
    try:
        with open_regular(path) as stream:
            found = strict.from_plain(KnownDevices, json.loads(stream.read(MAX_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise InputError(f"{path}: damaged; remove it") from error
    return dict(sorted(found.devices.items(), key=lambda item: item[1].seen, reverse=True))


def remember(name: str, facts: dict[str, Any]) -> None:
    """Remember a device; a file that cannot be read or written stays as it is.

    Args:
        name: its name in `--on`.
        facts: of its agent.
    """
    libc = " ".join(filter(None, (facts["libc"], facts["libc_version"])))
    device = KnownDevice(
        seen=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        host=facts["host"],
        processor=facts["processor"],
        machine=facts["machine"],
        cores=facts["cores"],
        memory_mb=facts["memory"] / 1e6,
        system=f"{facts['system']} ({libc})" if libc else facts["system"],
        python=facts["python"],
    )
    path = known_path()
    # Several devices may be reached at once.
    with _writing, contextlib.suppress(OSError, InputError):
        if path is None:
            return
        content = KnownDevices(FORMAT, VERSION, {**known_devices(), name: device})
        with replacing(path) as temporary:
            text = json.dumps(strict.to_plain(content), indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
