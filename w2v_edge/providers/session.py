"""Opens onnxruntime sessions and proves that they run on the requested provider."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from w2v_edge.errors import ProviderError, one_line
from w2v_edge.files import cache_folder
from w2v_edge.providers.choice import Execution
from w2v_edge.providers.installation import (
    import_onnxruntime,
    preload_libraries,
    why_not_started,
)
from w2v_edge.providers.machine import device_identity
from w2v_edge.providers.options import merge_options
from w2v_edge.providers.placement import Placement, check, refusal, summarise
from w2v_edge.providers.plugins import DEVICE_TYPE, add_plugin, is_plugin
from w2v_edge.providers.table import TABLE

FATAL = 4
"""Log severity of onnxruntime; it prints nothing that is less severe."""

WARM_UPS, TIMED_RUNS, TIMED_SECONDS = 2, (5, 50), 1.0
"""First runs that are left out, fewest and most runs after them, and seconds for all of them."""

Inputs = Mapping[str, npt.NDArray[Any]]


def open_session(path: Path, execution: Execution, *, cache_key: str = "") -> Any:
    """Open an onnxruntime session on the requested provider.

    Args:
        path: path of the graph.
        execution: how to run it.
        cache_key: key of the bundle, for the folder of compiled graphs; empty to keep none.

    Raises:
        ProviderError: the provider is installed but did not start, or does not take the graph.
    """
    ort = import_onnxruntime()
    return _open(ort, path, execution, _options(ort, execution), cache_key)


def open_and_prove(
    path: Path, execution: Execution, inputs: Inputs, *, cache_key: str = "", timed: bool = False
) -> tuple[Any, Placement]:
    """Open a session and run it with profiling enabled, to find where operators ran.

    The profile is written to a temporary folder and removed. A heavy operator that did not run on
    a requested provider is an error.

    Args:
        path: path of the graph.
        execution: how to run it.
        inputs: inputs of the profiled run.
        cache_key: as for `open_session`.
        timed: whether fractions of time are wanted: then there are warm-ups, and runs for
            `TIMED_SECONDS`, at least `TIMED_RUNS[0]` and at most `TIMED_RUNS[1]`; else one run.

    Raises:
        ProviderError: the provider did not start, or does not run the graph.
    """
    warm_ups = WARM_UPS if timed else 0
    fewest, most = (warm_ups + x for x in (TIMED_RUNS if timed else (1, 1)))
    session, events = _profile(path, execution, inputs, cache_key, runs=fewest, most=most)
    placement = summarise(events, tuple(session.get_providers()), execution, warm_ups=warm_ups)
    check(placement, path.stem, execution)
    return session, placement


def profiled(
    path: Path, execution: Execution, inputs: Inputs, *, runs: int
) -> tuple[list[dict[str, Any]], Placement]:
    """Run a graph `runs` times with profiling enabled; return its events and their summary.

    Raises:
        ProviderError: as for `open_and_prove`.
    """
    session, events = _profile(path, execution, inputs, "", runs=runs)
    placement = summarise(events, tuple(session.get_providers()), execution)
    check(placement, path.stem, execution)
    return events, placement


def _profile(
    path: Path, execution: Execution, inputs: Inputs, cache_key: str, *, runs: int, most: int = 0
) -> tuple[Any, list[dict[str, Any]]]:
    """Run a graph `runs` times, and up to `most` times within `TIMED_SECONDS`."""
    ort = import_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="w2v-edge-") as folder:
        options = _options(ort, execution)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _open(ort, path, execution, options, cache_key)
        end = time.perf_counter() + TIMED_SECONDS
        for done in range(max(runs, most)):
            if done >= runs and time.perf_counter() >= end:
                break
            session.run(None, dict(inputs))
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_bytes())
    return session, events


def _open(ort: ModuleType, path: Path, execution: Execution, options: Any, cache_key: str) -> Any:
    if execution.info.library:
        preload_libraries(ort)
    try:
        providers = _providers(ort, execution, cache_key)
        if any(is_plugin(ort, name) for name, _ in execution.providers):
            _add_providers(ort, options, execution, providers)
            providers = []
        session = _session_class(ort)(str(path), options, providers=providers or None)
    except ProviderError:
        if not execution.allow_fallback:
            raise
        session = ort.InferenceSession(str(path), options, providers=[TABLE["cpu"].ort_name])
    except Exception as error:
        if not execution.needs_proof:
            raise
        if not execution.allow_fallback:
            raise _refused(ort, path, execution, error) from error
        session = ort.InferenceSession(str(path), options, providers=[TABLE["cpu"].ort_name])
    if execution.allow_fallback:
        return session
    if execution.info.ort_name not in session.get_providers():
        raise ProviderError(why_not_started(ort, execution.provider))
    # By default a failing run is repeated on the CPU, with a message on stdout.
    session.disable_fallback()
    return session


def _refused(ort: ModuleType, path: Path, execution: Execution, error: Exception) -> ProviderError:
    if not isinstance(error, _NotStarted):
        what = f"it cannot be opened there (onnxruntime: {one_line(error)})"
        return refusal(path.stem, execution, what)
    if execution.info.library:
        return ProviderError(why_not_started(ort, execution.provider))
    return ProviderError(
        f"provider {execution.provider!r} did not start, onnxruntime says: {one_line(error)}; "
        "check its options and drivers"
    )


def _providers(
    ort: ModuleType, execution: Execution, cache_key: str
) -> list[tuple[str, dict[str, str]]]:
    available = ort.get_available_providers()
    providers = []
    for name, own in execution.providers:
        row = TABLE[name]
        if row.ort_name not in available:
            continue
        if name == "openvino":
            _check_device(ort, own.get(DEVICE_TYPE))
        folder = None
        if row.cached and cache_key:
            folder = _cache_folder(name, compiled_key(ort, cache_key, own))
        options = row.options | (row.cached if folder else {})
        if execution.arithmetic == "bf16":
            options |= row.bfloat16
        values = {"threads": execution.threads, "cache": folder}
        filled = {key: value.format(**values) for key, value in options.items()}
        providers.append((row.ort_name, merge_options(filled, own)))
    cpu = TABLE["cpu"].ort_name
    if cpu not in [name for name, _ in providers]:
        # Shape arithmetic stays on the CPU by design.
        providers.append((cpu, {}))
    return providers


def _check_device(ort: ModuleType, wanted: str | None) -> None:
    """Refuse a device that OpenVINO does not find, before it writes messages of its own.

    Raises:
        ProviderError: the device is named alone, as `NPU` or `GPU.1`, and is not there.
    """
    bindings = ort.capi._pybind_state  # noqa: SLF001 - where the documentation of OpenVINO has it
    listing = getattr(bindings, "get_available_openvino_device_ids", None)
    if wanted is None or listing is None or ":" in wanted:
        return
    found = listing()
    if wanted not in found and wanted not in {x.partition(".")[0] for x in found}:
        raise ProviderError(
            f"provider 'openvino': found devices {', '.join(found)}, expected {wanted}; choose "
            f"another with the option {DEVICE_TYPE}"
        )


def _add_providers(
    ort: ModuleType, options: Any, execution: Execution, builtin: list[tuple[str, dict[str, str]]]
) -> None:
    """Add plugins and built-in providers to a session's options, first choice first.

    onnxruntime takes plugins there only, and then all others too; the CPU's comes last by itself.
    """
    own = dict(builtin)
    for name, given in execution.providers:
        ort_name = TABLE[name].ort_name
        if is_plugin(ort, name):
            bfloat16 = execution.arithmetic == "bf16"
            add_plugin(ort, options, name, given, execution.threads, bfloat16=bfloat16)
        elif ort_name in own and name != "cpu":
            options.add_provider(ort_name, own[ort_name])


def _options(ort: ModuleType, execution: Execution) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = execution.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Memory plans for a fixed shape are useless where every length is new, and keep memory;
    # DirectML requires that they are disabled.
    options.enable_mem_pattern = False
    options.log_severity_level = FATAL
    if execution.power == "low" or execution.spinning == "never":
        # By default a thread that waits for work spins, at full power.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    elif execution.spinning == "in_runs":
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if execution.block_base:
        options.add_session_config_entry("session.dynamic_block_base", str(execution.block_base))
    if not execution.kleidiai:
        options.add_session_config_entry("mlas.disable_kleidiai", "1")
    return options


def _cache_folder(provider: str, key: str) -> Path | None:
    """Return a folder for compiled graphs in the user's cache, or None if it cannot be made."""
    base = cache_folder()
    if base is None:
        return None
    folder = base / provider / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def compiled_key(ort: ModuleType, bundle: str, options: Mapping[str, str]) -> str:
    """Return the key of a compiled graph: bundle, onnxruntime, driver, device and options."""
    what = [bundle, str(ort.__version__), _driver(), device_identity(), sorted(options.items())]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _driver() -> str:
    """Return the version of the NVIDIA driver; elsewhere drivers come with the system."""
    try:
        return Path("/proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return platform.version()


class _NotStarted(Exception):  # noqa: N818 - it never leaves this file
    """A provider could not load its libraries, or rejected its options."""


@cache
def _session_class(ort: ModuleType) -> Any:
    """Return a session class that never falls back to the CPU silently.

    On these errors onnxruntime prints a banner and opens the graph on the CPU; some versions have
    no switch for it.
    """

    class Session(ort.InferenceSession):  # type: ignore[misc, name-defined]
        def _create_inference_session(self, *args: Any, **kwargs: Any) -> None:
            try:
                super()._create_inference_session(*args, **kwargs)
            except (ValueError, RuntimeError) as error:
                raise _NotStarted(str(error)) from error

    return Session
