"""OpenVINO's provider computes bundles in bf16 in bfloat16, and no others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import w2v_edge
from w2v_edge import data
from w2v_edge.agreement import frame_cosines
from w2v_edge.bundle.golden import check_golden
from w2v_edge.providers.bfloat16 import has_bfloat16

pytestmark = pytest.mark.skipif(
    not has_bfloat16(), reason="this processor has neither avx512_bf16 nor amx_bf16"
)


@pytest.fixture(params=["tiny", "base-small", "large-small"])
def folders(
    request: pytest.FixtureRequest, bundles: Path, tmp_path: Path, reseal: Callable[..., None]
) -> tuple[Path, Path]:
    """A bundle in float32, and a copy whose manifest says bf16."""
    exact, rounded = bundles / f"{request.param}-openvino", tmp_path / "bf16"
    shutil.copytree(exact, rounded)
    reseal(rounded, precision="bf16")
    return exact, rounded


def test_golden_vectors_hold(folders: tuple[Path, Path]) -> None:
    """Against PyTorch, within the tolerances of bf16, by every graph."""
    model = w2v_edge.load(folders[1], provider="openvino")
    assert model.precision == "bf16"
    rows, agreement = check_golden(model)
    assert [row for row in rows if not row.ok] == []
    assert agreement.compared > 1_000


def test_outputs_are_those_of_bfloat16(folders: tuple[Path, Path]) -> None:
    """They differ from float32's as 8 bits explain; those of a float32 bundle do not."""
    clip = np.concatenate(list(data.clips(16_000).values()))
    exact, rounded = (w2v_edge.load(x, provider="openvino") for x in folders)
    reference = w2v_edge.load(folders[0])
    expected = reference.encode(clip)
    for model, least, most in ((exact, 0.0, 1e-9), (rounded, 1e-7, 1e-3)):
        found = model.encode(clip)
        for one, other in ((found.context, expected.context), (found.features, expected.features)):
            distance = 1 - np.quantile(frame_cosines(one, other), 0.1)
            assert least <= max(0.0, float(distance)) <= most
        changed = (model.tokenize(clip) != reference.tokenize(clip)).mean()
        assert bool(changed > 0) is (model is rounded)
        assert changed < 0.05


def test_results_do_not_depend_on_the_batch(folders: tuple[Path, Path]) -> None:
    """An utterance has the same codes alone and beside a longer one."""
    clip = np.concatenate(list(data.clips(16_000).values()))[:48_000]
    model = w2v_edge.load(folders[1], provider="openvino")
    lengths = np.array([len(clip), 20_000])
    batch = np.stack([clip, clip])
    batch[1, lengths[1] :] = 1e3
    found = model.run("tokenizer", waveform=batch, lengths=lengths)
    for row, (samples, frames) in enumerate(zip(lengths, found["frame_lengths"], strict=True)):
        alone = model.tokenize(clip[:samples])
        assert len(alone) == frames
        assert (found["codes"][row, :frames] != alone).mean() <= 0.001
