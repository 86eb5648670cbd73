"""Memory stays bounded; `bench/memory_growth.py` runs longer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = """
import json, os, sys
import numpy as np
import w2v_edge

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

model = w2v_edge.load(sys.argv[1], threads=1)
random = np.random.default_rng(0)
history = []
for _ in range(150):
    clip = 0.1 * random.standard_normal(int(random.uniform(800, 80_000)), np.float32)
    model.tokenize(clip)
    model.encode(clip)
    history.append(resident())
print(json.dumps(history))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_new_lengths_take_no_new_memory(name: str, bundle: Callable[[str], Path]) -> None:
    """After some clips of random lengths, further ones add at most 5 % memory."""
    command = [sys.executable, "-c", RUN, str(bundle(name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    history = json.loads(done.stdout)
    assert max(history[75:]) <= 1.05 * max(history[:75])
