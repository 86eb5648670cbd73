"""Execution providers, threads and cores: selection, proof of placement, and tuning.

A requested provider that does not run is an error, never a warning.
"""

from w2v_edge.providers.choice import Execution, ProviderChoice, choose
from w2v_edge.providers.installation import import_onnxruntime
from w2v_edge.providers.machine import (
    available_memory,
    cgroup_cores,
    cgroup_memory,
    default_threads,
    fast_cores,
    usable_cores,
)
from w2v_edge.providers.placement import Placement
from w2v_edge.providers.session import open_and_prove, open_session, profiled
from w2v_edge.providers.table import ProviderInfo

__all__ = [
    "Execution",
    "Placement",
    "ProviderChoice",
    "ProviderInfo",
    "available_memory",
    "cgroup_cores",
    "cgroup_memory",
    "choose",
    "default_threads",
    "fast_cores",
    "import_onnxruntime",
    "open_and_prove",
    "open_session",
    "profiled",
    "usable_cores",
]
