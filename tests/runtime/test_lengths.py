"""A few lengths instead of any, for providers that compile for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.bundle import Bundle, Tensors
from w2v_edge.providers import choose
from w2v_edge.runtime.padding import bucket_samples
from w2v_edge.runtime.session import Session

RATES = st.sampled_from([8_000, 16_000, 44_100])


@given(samples=st.integers(0, 200_000_000), rate=RATES)
def test_a_bucket_holds_what_it_is_for(samples: int, rate: int) -> None:
    """No waveform is cut, and above half a second at most half as much again is computed."""
    assert bucket_samples(samples, rate) >= samples
    assert bucket_samples(samples, rate) <= max(rate // 2, 1.5 * samples)


@given(samples=st.integers(0, 1_000_000), rate=RATES)
def test_buckets_are_steps(samples: int, rate: int) -> None:
    """Buckets are idempotent and monotonic."""
    bucket = bucket_samples(samples, rate)
    assert bucket_samples(bucket, rate) == bucket
    assert bucket_samples(samples + 1, rate) >= bucket


def test_there_are_few() -> None:
    """All lengths up to an hour come to fewer than thirty."""
    found = {bucket_samples(samples, 16_000) for samples in range(0, 3_600 * 16_000, 1_000)}
    assert len(found) < 30


@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_results_do_not_change(name: str, bundle: Callable[[str], Path]) -> None:
    """A runner that pads gives outputs of the same shapes and values as one that does not."""
    manifest = Bundle.open(bundle(name))
    plain = choose("cpu", 1, allow_fallback=False)
    without = Session(manifest, plain)
    padding = Session(manifest, plain)
    for graph in ("encoder", "tokenizer"):
        opened = padding.open(graph)
        provider = replace(opened.provider, buckets=True)
        padding._graphs[graph] = replace(opened, provider=provider)
    waveform = np.random.default_rng(5).standard_normal((2, 9_001)).astype(np.float32)
    batch: Tensors = {"waveform": waveform, "lengths": np.array([9_001, 4_000])}
    for graph in ("encoder", "tokenizer"):
        expected, found = without.run(graph, batch), padding.run(graph, batch)
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            assert found[output].shape == values.shape
            assert np.abs(found[output] - values).max() <= 1e-4 * max(1, np.abs(values).max())
