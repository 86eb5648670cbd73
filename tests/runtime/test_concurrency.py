"""One model serves many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge
from w2v_edge.providers import usable_cores

THREADS = 8
ROUNDS = 12
PATIENCE = 120


@pytest.mark.parametrize("threads", [1, 2, None])
def test_eight_threads_get_what_one_gets(
    threads: int | None,
    bundle: Callable[[str], Path],
    speech: dict[str, npt.NDArray[np.float32]],
) -> None:
    """Results are those of one call after the other, bit by bit, and all calls come back."""
    clip = np.concatenate(list(speech.values()))
    waveforms = [clip[i * 900 : 9_000 + i * 2_500] for i in range(THREADS)]
    serial = w2v_edge.load(bundle("base-small"), threads=threads)
    expected = [(serial.encode(x), serial.tokenize(x)) for x in waveforms]
    model = w2v_edge.load(bundle("base-small"), threads=threads)
    begin = threading.Barrier(THREADS)

    def work(mine: int) -> list[int]:
        begin.wait()
        wrong = []
        for turn in range(ROUNDS):
            i = (mine + turn) % THREADS
            encoding, codes = expected[i]
            found = model.encode(waveforms[i])
            same = found.context.tobytes() == encoding.context.tobytes()
            same &= found.features.tobytes() == encoding.features.tobytes()
            if not (same and np.array_equal(model.tokenize(waveforms[i]), codes)):
                wrong.append(i)
        return wrong

    with ThreadPoolExecutor(THREADS) as pool:
        calls = [pool.submit(work, i) for i in range(THREADS)]
        assert [call.result(timeout=PATIENCE) for call in calls] == [[]] * THREADS


def test_runs_share_the_cores(bundle: Callable[[str], Path]) -> None:
    """As many runs go on at once as there are cores for their threads, and at least one."""
    for threads in (1, usable_cores(), usable_cores() + 3):
        session = w2v_edge.load(bundle("base-small"), threads=threads).session
        slots: Any = session.open("frontend").slots
        taken = 0
        while slots.acquire(blocking=False):
            taken += 1
        assert taken == max(1, usable_cores() // threads)


def test_opening_holds_up_no_other_graph(bundle: Callable[[str], Path]) -> None:
    """While one graph is being opened, another runs."""
    model = w2v_edge.load(bundle("base-small"))
    clip = np.full(4_000, 0.1, np.float32)
    # The lock is let go of first, or a failure would wait for ever.
    with ThreadPoolExecutor(1) as pool, model.session._opening["encoder"]:
        assert len(pool.submit(model.tokenize, clip).result(timeout=PATIENCE))


def test_a_failed_run_leaves_its_slot(bundle: Callable[[str], Path]) -> None:
    """After more refused runs than there are slots, the model still runs."""
    model = w2v_edge.load(bundle("base-small"))
    wrong = {"waveform": np.zeros((1, 4_000), np.float64), "lengths": np.array([4_000])}
    for _ in range(usable_cores() + 1):
        with pytest.raises(w2v_edge.W2VEdgeError):
            model.run("tokenizer", **wrong)
    assert len(model.tokenize(np.full(4_000, 0.1, np.float32)))
