"""What was asked for runs, or it is an error: providers and threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import w2v_edge
from w2v_edge.errors import ProviderError
from w2v_edge.providers import cgroup_cores, usable_cores

CLIP = (np.sin(np.arange(4_000) / 9) / 2).astype(np.float32)

needs_no_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this onnxruntime has the provider",
)


@pytest.fixture(scope="session")
def folder(bundle: Callable[[str], Path]) -> Path:
    """A bundle."""
    return bundle("base-small")


@needs_no_gpu
def test_a_provider_that_is_not_there(folder: Path) -> None:
    """CUDA on a machine without it is refused at load, with the line that installs it."""
    with pytest.raises(ProviderError, match=r"'cuda' is not .*w2v-edge\[gpu\]") as refused:
        w2v_edge.load(folder, provider="cuda")
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 1


@needs_no_gpu
def test_fallback_is_asked_for(folder: Path) -> None:
    """Where falling back is allowed, what really ran is on record."""
    model = w2v_edge.load(folder, provider="cuda", allow_fallback=True)
    found = model.encode(CLIP)
    assert model.provider == "cuda"
    assert model.placement["encoder"] == ["CPUExecutionProvider"]
    assert np.array_equal(found.context, w2v_edge.load(folder).encode(CLIP).context)


@pytest.mark.parametrize("provider", ["tpu", "CPU", "", None, ["cpu"], "CPUExecutionProvider"])
def test_unknown_providers(folder: Path, provider: Any) -> None:
    """A name that is no provider's is refused with those that are, even with fallback."""
    for allow_fallback in (False, True):
        with pytest.raises(ProviderError, match=r"choose one of: cpu, cuda"):
            w2v_edge.load(folder, provider=provider, allow_fallback=allow_fallback)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_bad_thread_counts(folder: Path, threads: Any) -> None:
    """Threads are a whole number above 0, or None for as many as make sense."""
    with pytest.raises(ProviderError, match=r"threads="):
        w2v_edge.load(folder, threads=threads)


def test_thread_counts(folder: Path) -> None:
    """Any number of threads gives the same codes; None means the cores this process may use."""
    expected = w2v_edge.load(folder, threads=1).tokenize(CLIP)
    for threads in (2, 3):
        model = w2v_edge.load(folder, threads=threads)
        assert model.threads == threads
        assert (model.tokenize(CLIP) == expected).mean() > 0.99
    assert w2v_edge.load(folder).threads == usable_cores()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "0\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n"}, None),
        ({}, None),
    ],
)
def test_control_groups(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    """A container's CPU quota is read from both versions of control groups."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_cores(root=tmp_path) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_counts() -> None:
    """A process that is bound to one core does not start threads for all of them."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= usable_cores() <= len(allowed)
