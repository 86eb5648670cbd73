"""The runtime on emulated processors: ARM64 of three generations, and x86 without VNNI."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.emulated.processors import PROCESSORS, Processor, outputs_file, run

Outputs = dict[str, npt.NDArray[Any]]

NAMES = ("tiny-fp32", "tiny-int8", "base-widths-int8")

SLOW = ("sve", "avx2")
"""Processors whose vectors QEMU computes element by element."""

processors = pytest.mark.parametrize("processor", PROCESSORS, ids=[x.name for x in PROCESSORS])


@pytest.fixture(scope="session")
def outputs(
    emulated: Path, shared_folder: Path, locked: Callable[[str], AbstractContextManager[None]]
) -> Callable[[Processor | None], Outputs]:
    """`outputs(processor)`: what the bundles give there; None is this machine's own processor.

    One worker makes them; they stay for `python -m bench.processors`.
    """

    @cache
    def of(processor: Processor | None) -> Outputs:
        path = outputs_file(emulated, processor)
        made = shared_folder / f"{path.stem}.made"
        with locked(f"outputs-{path.stem}"):
            if not made.exists():
                path.parent.mkdir(exist_ok=True)
                bundles = str(emulated / "bundles")
                run(emulated, processor, "-m", "tests.emulated.guest", bundles, str(path), *NAMES)
                made.touch()
        with np.load(path) as found:
            return dict(found)

    return of


@processors
def test_golden_vectors_hold(processor: Processor, emulated: Path) -> None:
    """`w2v-edge verify` accepts tiny, in float32 and int8."""
    if processor.name in SLOW:
        pytest.skip(
            "QEMU emulates its vectors too slowly for verify; other tests compare 1 s of audio"
        )
    shipped = "import w2v_edge.data; print(w2v_edge.data.TINY_INT8)"
    tiny = emulated / "bundles/tiny-fp32"
    for bundle in (str(tiny), run(emulated, processor, "-c", shipped).strip()):
        found = json.loads(run(emulated, processor, "-m", "w2v_edge", "verify", bundle, "--json"))
        assert found["passed"]
        assert found["codes_compared"] > 0


@processors
def test_the_processor_is_the_emulated_one(
    processor: Processor, outputs: Callable[[Processor | None], Outputs]
) -> None:
    """The tests ran on the processor that they name."""
    assert str(outputs(processor)["machine"]) == processor.machine


@processors
@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_those_of_this_machine(
    processor: Processor, name: str, outputs: Callable[[Processor | None], Outputs]
) -> None:
    """Float32 is within 1e-4 of a standard deviation; int8 within the golden vectors' cosine."""
    found, expected = outputs(processor), outputs(None)
    for key in ("features", "context"):
        a, b = found[f"{name}.{key}"], expected[f"{name}.{key}"]
        assert a.shape == b.shape
        if name.endswith("fp32"):
            assert np.abs(a - b).max() <= 1e-4 * b.std()
        else:
            assert _cosines(a, b).min() >= 0.999
    codes = f"{name}.codes"
    assert (found[codes] != expected[codes]).mean() <= 0.02


@processors
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_equals_the_whole(
    processor: Processor, name: str, outputs: Callable[[Processor | None], Outputs]
) -> None:
    """A stream has the same features and codes as the recording at once."""
    found = outputs(processor)
    streamed, whole = found[f"{name}.streamed.features"], found[f"{name}.features"]
    assert streamed.shape == whole.shape
    if name.endswith("fp32"):
        assert np.abs(streamed - whole).max() <= 1e-5 * whole.std()
    else:
        assert _cosines(streamed, whole).min() >= 0.9999
    assert (found[f"{name}.streamed.codes"] != found[f"{name}.codes"]).mean() <= 0.001


@processors
def test_products_of_integers_are_exact(
    processor: Processor, outputs: Callable[[Processor | None], Outputs]
) -> None:
    """Weights that the exporter may emit never saturate, with or without VNNI, dotprod or i8mm."""
    from tests.emulated.bundles import product_weight

    found = outputs(processor)
    expected = found["product.x"].astype(np.int32) @ product_weight().astype(np.int32)
    assert np.array_equal(found["product.y"], expected)


def _cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    cosines: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.maximum(
        np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30
    )
    return cosines
