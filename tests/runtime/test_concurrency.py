"""One model serves many threads, until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge
from w2v_edge.errors import InferenceError
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
    """Eight threads that share a model get the bytes that one thread gets."""
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
    """Runs at a time are usable cores divided by threads, at least one."""
    for threads in (1, usable_cores(), usable_cores() + 3):
        session = w2v_edge.load(bundle("base-small"), threads=threads).session
        slots: Any = session.open("frontend").slots
        taken = 0
        while slots.acquire(blocking=False):
            taken += 1
        assert taken == max(1, usable_cores() // threads)


def test_opening_blocks_no_other_graph(bundle: Callable[[str], Path]) -> None:
    """A graph runs while another one is being opened."""
    model = w2v_edge.load(bundle("base-small"))
    clip = np.full(4_000, 0.1, np.float32)
    # The lock is released first, or a failure would wait forever.
    with ThreadPoolExecutor(1) as pool, model.session._opening["encoder"]:
        assert len(pool.submit(model.tokenize, clip).result(timeout=PATIENCE))


def test_a_failed_run_releases_its_slot(bundle: Callable[[str], Path]) -> None:
    """After more failed runs than slots, the model still runs."""
    model = w2v_edge.load(bundle("base-small"))
    wrong = {"waveform": np.zeros((1, 4_000), np.float64), "lengths": np.array([4_000])}
    for _ in range(usable_cores() + 1):
        with pytest.raises(w2v_edge.W2VEdgeError):
            model.run("tokenizer", **wrong)
    assert len(model.tokenize(np.full(4_000, 0.1, np.float32)))


CLIP = (np.sin(np.arange(8_000) / 9) / 2).astype(np.float32)
BATCH = {"waveform": CLIP[None], "lengths": np.array([len(CLIP)])}


def test_a_closed_model_does_not_run(bundle: Callable[[str], Path]) -> None:
    """After `close` or the end of a `with` block, each call is an `InferenceError` of one line."""
    with w2v_edge.load(bundle("large-small")) as model:
        stream = model.stream()
        stream.push(CLIP)
        model.encode(CLIP)
    closed = w2v_edge.load(bundle("large-small"))
    closed.close()
    closed.close()
    calls: list[Callable[[], Any]] = [
        lambda: stream.push(CLIP),
        *(
            call
            for one in (model, closed)
            for call in (
                lambda one=one: one.encode(CLIP),
                lambda one=one: one.tokenize([CLIP, CLIP]),
                lambda one=one: one.features(CLIP),
                lambda one=one: list(one.encode_blocks(CLIP)),
                lambda one=one: one.prepare("encoder"),
                lambda one=one: one.run("tokenizer", **BATCH),
                lambda one=one: one.run_on_device("tokenizer", **BATCH),
            )
        ),
    ]
    for call in calls:
        with pytest.raises(InferenceError, match=r"was closed; load the bundle again") as refused:
            call()
        assert "\n" not in str(refused.value)
    assert model.placement == {}


def test_a_run_in_progress_ends_normally(bundle: Callable[[str], Path]) -> None:
    """Closing a model while another thread runs it changes nothing for that run."""
    model = w2v_edge.load(bundle("large-small"))
    expected = model.run("tokenizer", **BATCH)["codes"]
    opened = model.session.open("tokenizer")
    running, closed = threading.Event(), threading.Event()

    class Waiting:
        def run(self, *arguments: Any) -> Any:
            running.set()
            assert closed.wait(PATIENCE)
            return opened.session.run(*arguments)

    model.session._graphs["tokenizer"] = replace(opened, session=Waiting())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(model.run, "tokenizer", **BATCH)
        assert running.wait(PATIENCE)
        model.close()
        closed.set()
        assert np.array_equal(call.result(timeout=PATIENCE)["codes"], expected)


def test_an_error_inside_a_with_block_is_raised(bundle: Callable[[str], Path]) -> None:
    """Leaving a `with` block by an error closes the model and raises the error."""
    with pytest.raises(KeyError), w2v_edge.load(bundle("large-small")) as model:
        raise KeyError
    with pytest.raises(InferenceError):
        model.tokenize(CLIP)
