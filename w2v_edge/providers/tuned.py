"""Tuning files: settings that `w2v-edge tune` found, one file per bundle and provider.

A file is used only for the same bundle, on a device with the same identity, with the same version
of onnxruntime.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from w2v_edge import strict
from w2v_edge.bundle.manifest import Manifest
from w2v_edge.errors import ConfigError, TuningError
from w2v_edge.files import open_regular, replacing, settings_folder
from w2v_edge.providers import import_onnxruntime
from w2v_edge.providers.choice import Execution
from w2v_edge.providers.machine import device_identity
from w2v_edge.providers.tuning import Tuning

FORMAT: Literal["w2v-edge-tuning"] = "w2v-edge-tuning"
VERSION: Literal[1] = 1
MAX_BYTES = 2**16


@dataclass(frozen=True)
class Gain:
    """Speed-up over the defaults, measured in pairs of processes side by side.

    Attributes:
        what: the workload.
        times: ratio of the times; above 1 is faster than the defaults.
        low: lower end of the 95 % confidence interval.
        high: upper end.
        rounds: number of pairs of processes.
    """

    what: str
    times: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class TuningFile:
    """Content of a tuning file.

    Attributes:
        format: always `w2v-edge-tuning`.
        version: version of the format.
        bundle: SHA-256 of the bundle's manifest.
        provider: execution provider.
        device: the device's identity, see `device_identity`.
        onnxruntime: version of onnxruntime.
        tuning: the settings.
        gains: measured speed-ups; empty if the defaults were kept.
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
    """Return the content of a tuning file for this device."""
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
    """Return the default path of the tuning file of a bundle and provider on this device.

    Raises:
        TuningError: the user has no home folder.
    """
    name = f"{manifest.sha256[:16]}-{provider}-{device_identity()}.json"
    settings = settings_folder()
    if settings is None:
        raise TuningError("found no home folder, expected one for the tuning; name a file")
    return settings / "tuned" / name


def write_tuning(path: Path, found: TuningFile) -> None:
    """Write a tuning file atomically."""
    with replacing(path) as temporary:
        text = json.dumps(strict.to_plain(found), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_tuning(path: Path) -> TuningFile:
    """Read a tuning file.

    Raises:
        TuningError: the file is missing or damaged.
    """
    again = "run: w2v-edge tune BUNDLE"
    try:
        with open_regular(path) as stream:
            text = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no file"
        raise TuningError(f"{path}: {why}; expected a tuning, {again}") from error
    try:
        data = json.loads(text) if len(text) <= MAX_BYTES else None
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
    """Return the settings for `tuned`: defaults for False, this device's for True, or a file's.

    Raises:
        TuningError: the tuning is missing, damaged, or of another bundle, provider, device or
            version of onnxruntime; or it has settings that are not tunable here.
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
