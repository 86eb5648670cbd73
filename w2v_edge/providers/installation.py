"""The installed onnxruntime and its libraries, and pip commands for missing ones."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

from w2v_edge.errors import MissingExtraError, ProviderError
from w2v_edge.extras import with_commands
from w2v_edge.providers.plugins import is_plugin, load_plugin
from w2v_edge.providers.table import TABLE

WHEELS = (
    *dict.fromkeys(row.wheel for row in TABLE.values() if row.wheel),
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
)
"""Distributions of the module `onnxruntime`; each overwrites the others."""

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime on first use, without its telemetry.

    Wheels for Linux have telemetry since 1.32: a thread, a temporary file and an address to report
    to. It stays on with `ORT_DISABLE_TELEMETRY=0` in the environment, or if the program imports
    onnxruntime first.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("running a bundle", "onnxruntime", "cpu") from error
    module: ModuleType = onnxruntime
    return module


def installed_wheels() -> list[str]:
    """Return the distributions that own the module `onnxruntime`; more than one conflict."""
    return [name for name in WHEELS if _owns_module(name)]


def conflict(wheels: list[str], wanted: str) -> tuple[str, str]:
    """Describe the conflict of several wheels in one environment, and its fix."""
    both = " and ".join(wheels)
    return (
        f"{both} are installed together and overwrite each other",
        f"pip uninstall -y {' '.join(wheels)}, then pip install '{wanted}'",
    )


def check_installed(ort: ModuleType, provider: str) -> None:
    """Check that the installed onnxruntime has a provider, and the machine its driver.

    Raises:
        ProviderError: the wheel lacks the provider, wheels conflict, the driver is missing, or a
            plugin's library does not load.
    """
    row = TABLE[provider]
    if is_plugin(ort, provider):
        load_plugin(ort, provider)
        return
    available = ort.get_available_providers()
    if row.ort_name not in available:
        wheels = installed_wheels()
        if row.wheel in wheels and len(wheels) > 1:
            what, fix = conflict(wheels, row.wheel)
            raise ProviderError(f"provider {provider!r} is missing: {what}; {fix}")
        raise ProviderError(
            f"provider {provider!r} is not in the installed onnxruntime {ort.__version__} "
            f"(it has: {', '.join(available)}); {with_commands(row.install)}"
        )
    if row.library and not loads(DRIVER):
        raise ProviderError(
            f"provider {provider!r} needs an NVIDIA GPU, and this machine has no driver for one "
            f"({DRIVER} is missing); install the driver, or use provider 'cpu'"
        )


def why_not_started(ort: ModuleType, provider: str) -> str:
    """Return one line on why an installed provider did not start, and the fix."""
    row = TABLE[provider]
    did_not = f"provider {provider!r} is installed but did not start"
    if row.library:
        missing = _missing_library(Path(str(ort.__file__)).parent / "capi" / row.library)
        if missing and "nvinfer" in missing:
            return f"{did_not}: {missing} is missing; run: pip install tensorrt"
        if missing:
            return (
                f"{did_not}: {missing} is missing; run: pip install 'onnxruntime-gpu[cuda,cudnn]'"
            )
        return f"{did_not}: found no usable GPU; check the driver with nvidia-smi"
    return f"{did_not}; see w2v-edge doctor, or pass allow_fallback=True"


def preload_libraries(ort: ModuleType) -> None:
    """Load CUDA libraries installed by pip, which onnxruntime does not find on its own."""
    if hasattr(ort, "preload_dlls") and importlib.util.find_spec("nvidia") is not None:
        # It prints the libraries that it does not find; opening a session names the one that
        # matters. Only this module's `print` is replaced: other threads keep their stdout.
        vars(ort)["print"] = lambda *_args, **_kwargs: None
        try:
            ort.preload_dlls()
        finally:
            vars(ort).pop("print", None)


def loads(library: str) -> bool:
    """Return whether a shared library can be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _missing_library(path: Path) -> str:
    """Return the library whose absence keeps another from loading; empty if none.

    Only for a library that onnxruntime has already tried to load: loaded earlier, it would be in
    the process without being initialised.
    """
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        named = re.match(r"([\w.+-]+): cannot open shared object", str(error))
        return named.group(1) if named else str(error).split(":")[0]
    return ""


def _owns_module(name: str) -> bool:
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:
        return False
    return any(file.parts[:1] == ("onnxruntime",) for file in files)
