"""Execution providers and threads: choose, prove, report.

A provider that was asked for and does not run is an error, never a warning.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from w2v_edge.errors import MissingExtraError, ProviderError
from w2v_edge.names import Provider

_ORT_NAMES: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    # The default, an exhaustive search, runs again for every new length of audio.
    # TF32 keeps 10 bits of each factor: outputs would miss the bars of the parity gate.
    "cuda": {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
}

_FIXES: dict[str, str] = {
    "cpu": "reinstall it: pip install --force-reinstall 'w2v-edge[cpu]'",
    "cuda": "in an environment without onnxruntime run: pip install 'w2v-edge[gpu]'",
}


MAX_THREADS = 1024


@dataclass(frozen=True)
class Execution:
    """How sessions are to run.

    Attributes:
        provider: the one asked for.
        threads: for one operator.
        allow_fallback: whether the CPU may stand in for a provider that does not run.
    """

    provider: str
    threads: int
    allow_fallback: bool


def choose(provider: str, threads: int | None, *, allow_fallback: bool) -> Execution:
    """Check a choice of provider and threads before anything is loaded.

    Raises:
        ProviderError: unknown, or not in the installed onnxruntime, or a bad thread count.
        MissingExtraError: onnxruntime is not installed.
    """
    if provider not in get_args(Provider):
        choices = ", ".join(get_args(Provider))
        raise ProviderError(f"unknown provider {provider!r}; choose one of: {choices}")
    if threads is not None and not _is_thread_count(threads):
        raise ProviderError(
            f"found threads={threads!r:.40}, expected a whole number above 0 "
            f"(at most {MAX_THREADS}), or None"
        )
    ort = import_onnxruntime()
    available = ort.get_available_providers()
    if _ORT_NAMES[provider] not in available and not allow_fallback:
        raise ProviderError(
            f"provider {provider!r} is not in the installed onnxruntime {ort.__version__} "
            f"(it has: {', '.join(available)}); {_FIXES[provider]}"
        )
    return Execution(provider, threads or usable_cores(), allow_fallback)


def open_session(path: Path, execution: Execution) -> Any:
    """Open an onnxruntime session that runs on the provider asked for.

    Raises:
        ProviderError: the provider is installed but did not start.
    """
    ort = import_onnxruntime()
    wanted = _ORT_NAMES[execution.provider]
    available = ort.get_available_providers()
    providers: list[tuple[str, dict[str, str]]] = []
    if wanted in available:
        providers.append((wanted, _OPTIONS[execution.provider]))
    if execution.provider != "cpu":
        # Shape arithmetic stays on the CPU by design.
        providers.append((_ORT_NAMES["cpu"], {}))
    session = ort.InferenceSession(str(path), _options(ort, execution), providers=providers)
    if wanted not in session.get_providers() and not execution.allow_fallback:
        raise ProviderError(
            f"provider {execution.provider!r} is installed but did not start, onnxruntime fell "
            f"back to {session.get_providers()[0]}; check the driver and the CUDA and cuDNN "
            "libraries (w2v-edge doctor), or pass allow_fallback=True"
        )
    if not execution.allow_fallback:
        # Otherwise a failing run would be repeated on the CPU, with a note on stdout.
        session.disable_fallback()
    return session


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime on first use.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("running a bundle", "onnxruntime", "cpu") from error
    module: ModuleType = onnxruntime
    return module


def usable_cores() -> int:
    """Return how many cores this process may keep busy: affinity and cgroup quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_cores()
    limit = cores or 1
    return max(1, limit if quota is None else min(limit, math.ceil(quota)))


def cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPU quota of this process's control group in cores, None where there is none."""
    try:
        if (root / "cpu.max").is_file():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _is_thread_count(threads: object) -> bool:
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    return whole and 1 <= threads <= MAX_THREADS  # type: ignore[operator]


def _options(ort: ModuleType, execution: Execution) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = execution.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Plans for a fixed shape are of no use where every length is new, and they keep memory.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    return options
