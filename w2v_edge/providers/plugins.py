"""Providers that lie in libraries of their own packages, which onnxruntime loads while it runs.

Such a package has a module with `get_library_path()`. onnxruntime 1.23 or newer loads the library
once for a process and lists the devices that it serves; sessions get the provider with one of
them. (onnxruntime's documentation, "Plugin execution provider libraries".)
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from w2v_edge.errors import ProviderError, one_line
from w2v_edge.extras import with_commands
from w2v_edge.providers.options import merge_options
from w2v_edge.providers.table import TABLE

DEVICE_TYPE = "device_type"
"""Option that chooses the kind of device: CPU, GPU or NPU."""

_loading = threading.Lock()
_loaded: set[str] = set()
"""Providers whose library this process has loaded."""


def is_plugin(ort: ModuleType, provider: str) -> bool:
    """Whether a provider comes from the library of its own package, and not from onnxruntime's."""
    row = TABLE[provider]
    if row.plugin is None or not has_module(row.plugin.module):
        return False
    return provider in _loaded or row.ort_name not in ort.get_available_providers()


def load_plugin(ort: ModuleType, provider: str) -> Sequence[Any]:
    """Load a provider's library, unless this process has, and return its devices.

    Returns:
        onnxruntime's `OrtEpDevice`s, at least one.

    Raises:
        ProviderError: onnxruntime is too old, the library does not load, or it serves no device.
    """
    row = TABLE[provider]
    assert row.plugin is not None
    package = row.plugin.package
    with _loading:
        if provider not in _loaded:
            if not hasattr(ort, "register_execution_provider_library"):
                raise ProviderError(
                    f"provider {provider!r}: {package} needs onnxruntime 1.23 or newer, found "
                    f"{ort.__version__}; update onnxruntime"
                )
            try:
                path = importlib.import_module(row.plugin.module).get_library_path()
                # Some libraries name their devices after the name that is given here.
                ort.register_execution_provider_library(row.ort_name, path)
            except Exception as error:
                raise ProviderError(
                    f"provider {provider!r}: the library of {package} does not load "
                    f"({one_line(error)}); reinstall {package}, or a version for onnxruntime "
                    f"{ort.__version__}"
                ) from error
            _loaded.add(provider)
    devices = [x for x in ort.get_ep_devices() if x.ep_name == row.ort_name]
    if not devices:
        raise ProviderError(
            f"provider {provider!r}: {package} finds no device that it serves; "
            f"{with_commands(row.plugin.without_device)}"
        )
    return devices


def add_plugin(
    ort: ModuleType,
    options: Any,
    provider: str,
    given: Mapping[str, str],
    threads: int,
    *,
    bfloat16: bool = False,
) -> None:
    """Add a provider to the options of a session, on the first device of the wanted kind.

    Args:
        ort: onnxruntime.
        options: onnxruntime's `SessionOptions`.
        provider: its name in the table.
        given: the caller's options.
        threads: intra-op threads.
        bfloat16: compute float32 graphs in bfloat16, if it can.

    Raises:
        ProviderError: as for `load_plugin`; or no device is of the wanted kind.
    """
    devices, plugin = load_plugin(ort, provider), TABLE[provider].plugin
    assert plugin is not None
    usual = plugin.options | (plugin.bfloat16 if bfloat16 else {})
    defaults = {key: value.format(threads=threads) for key, value in usual.items()}
    chosen = merge_options(defaults, given)
    wanted = chosen.pop(DEVICE_TYPE, None)
    kinds = [device.device.type.name for device in devices]
    if wanted is not None and wanted not in kinds:
        raise ProviderError(
            f"provider {provider!r}: found devices of type {', '.join(kinds)}, expected {wanted}; "
            f"choose another with the option {DEVICE_TYPE}"
        )
    first = 0 if wanted is None else kinds.index(wanted)
    options.add_provider_for_devices([devices[first]], chosen)


def plugin_states(ort: ModuleType) -> dict[str, str]:
    """Return what each installed plugin package serves, or why it does not, in words."""
    states = {}
    for name, row in TABLE.items():
        if row.plugin is None or not is_plugin(ort, name):
            continue
        try:
            devices = load_plugin(ort, name)
        except ProviderError as error:
            states[name] = str(error)
        else:
            kinds = ", ".join(dict.fromkeys(x.device.type.name for x in devices))
            states[name] = f"{row.plugin.package}, on {kinds}"
    return states


def has_module(name: str) -> bool:
    """Whether a module is installed; it is not imported."""
    return importlib.util.find_spec(name) is not None
