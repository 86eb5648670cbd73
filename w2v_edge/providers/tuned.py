"""What `w2v-edge tune` found on this device: a file for each bundle and provider.

A file is used only where it was made: for the same bundle, on a device of the same make, with the
same onnxruntime.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from w2v_edge import strict
from w2v_edge.bundle.manifest import Manifest
from w2v_edge.errors import ConfigError, TuningError
from w2v_edge.files import open_regular, replacing
from w2v_edge.providers import import_onnxruntime
from w2v_edge.providers.choice import Execution
from w2v_edge.providers.machine import device_identity
from w2v_edge.providers.tuning import Tuning

FORMAT: Literal["w2v-edge-tuning"] = "w2v-edge-tuning"
VERSION: Literal[1] = 1
MOST_BYTES = 2**16


@dataclass(frozen=True)
class Gain:
    """How much faster it was found to be than the defaults, in processes side by side.

    Attributes:
        what: was timed.
        times: as fast; above 1 is faster.
        low: lower end of its 95 % confidence interval.
        high: upper end.
        rounds: pairs of processes.
    """

    what: str
    times: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class TuningFile:
    """One file.

    Attributes:
        format: always `w2v-edge-tuning`.
        version: of the format.
        bundle: SHA-256 of its manifest.
        provider: execution provider.
        device: as `device_identity` has it.
        onnxruntime: its version.
        tuning: what to use.
        gains: what it was found to gain; none where the defaults were kept.
        created: date and time, ISO 8601, in UTC.
    """

    format: Literal["w2v-edge-tuning"]
    version: Literal[1]
    bundle: str
    provider: str
    device: str
    onnxruntime: str
    tuning: Tuning
    gains: tuple[Gain, ...] = field(default_factory=tuple)
    created: str = ""


def describe(
    manifest: Manifest, provider: str, tuning: Tuning, gains: tuple[Gain, ...], created: str
) -> TuningFile:
    """Return what a file of this device says."""
    version = str(import_onnxruntime().__version__)
    return TuningFile(
        FORMAT,
        VERSION,
        manifest.sha256,
        provider,
        device_identity(),
        version,
        tuning,
        gains,
        created,
    )


def usual_path(manifest: Manifest, provider: str) -> Path:
    """Return where the file of a bundle and a provider lies on this device.

    Raises:
        TuningError: there is no folder for a user's settings.
    """
    name = f"{manifest.sha256[:16]}-{provider}-{device_identity()}.json"
    return _settings() / "w2v-edge" / "tuned" / name


def write_tuning(path: Path, found: TuningFile) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(strict.to_plain(found), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_tuning(path: Path) -> TuningFile:
    """Read a file.

    Raises:
        TuningError: there is none, or it is damaged, or has settings that are not to be tuned.
    """
    again = "run: w2v-edge tune BUNDLE"
    try:
        with open_regular(path) as stream:
            text = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no file"
        raise TuningError(f"{path}: {why}; expected a tuning, {again}") from error
    try:
        data = json.loads(text) if len(text) <= MOST_BYTES else None
    except (ValueError, RecursionError) as error:
        raise TuningError(f"{path}: damaged, not JSON; {again}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise TuningError(f"{path}: not a tuning; {again}")
    try:
        found = strict.from_plain(TuningFile, data)
    except (ConfigError, RecursionError, TypeError) as error:
        raise TuningError(f"{path}: {error}; {again}") from error
    return found


def find_tuning(tuned: bool | str | Path, manifest: Manifest, execution: Execution) -> Tuning:
    """Return what was tuned: nothing for False, this device's for True, else that of a file.

    Raises:
        TuningError: there is none, or it is of another bundle, provider, device or onnxruntime.
    """
    if not isinstance(tuned, bool | str | Path):
        raise TuningError(f"found tuned={tuned!r:.40}, expected True, False or a file")
    if tuned is False:
        return Tuning()
    if execution.power == "low":
        raise TuningError("found power='low' with a tuning, which is for power='high'; drop one")
    provider = execution.provider
    path = usual_path(manifest, provider) if tuned is True else Path(tuned)
    if tuned is True and not path.is_file():
        raise TuningError(
            f"no tuning of this bundle for provider {provider!r} on this device ({path}); "
            "run: w2v-edge tune BUNDLE"
        )
    found = read_tuning(path)
    _check(path, found, describe(manifest, provider, found.tuning, (), ""))
    return found.tuning


def _check(path: Path, found: TuningFile, here: TuningFile) -> None:
    for name in ("bundle", "provider", "device", "onnxruntime"):
        was, is_ = getattr(found, name), getattr(here, name)
        if was != is_:
            raise TuningError(
                f"{path}: tuned for {name} {was!r:.40}, found {is_!r:.40}; "
                "run here: w2v-edge tune BUNDLE"
            )
    try:
        found.tuning.check(found.provider)
    except ConfigError as error:
        raise TuningError(f"{path}: {error}; run: w2v-edge tune BUNDLE") from error


def _settings() -> Path:
    """Return this user's folder for settings: what lies there no clean-up of caches removes."""
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        if sys.platform == "darwin":
            return Path.home() / "Library/Application Support"
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError as error:
        raise TuningError(
            "found no home folder, expected one to keep a tuning in; name a file"
        ) from error
