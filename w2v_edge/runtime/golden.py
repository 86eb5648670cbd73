"""Golden vectors: what came of a generated clip at export, to check a bundle with no torch at hand.

In float32 they are PyTorch's; with quantized weights they are the bundle's own, on the machine
that exported it, after it held its budgets against PyTorch.

`golden.npz` holds, for a padded batch of two (the second ends early, over garbage): the inputs
`waveform` and `lengths`; the expected `features`, `context`, `frame_lengths`, `codes`, `vectors`;
`margins`, the distance of each code's two best logits in standard deviations of all logits;
`features_std` and `context_std`, how much they vary across frames; and `bars`, JSON text with the
tolerances by precision. Programs in any language can reproduce it.
"""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import GOLDEN
from w2v_edge.comparison import (
    Row,
    Tally,
    compare_codes,
    compare_frames,
    compare_lengths,
    compare_most_codes,
    compare_values,
)
from w2v_edge.errors import BundleIntegrityError
from w2v_edge.runtime.model import Model

Arrays = dict[str, npt.NDArray[Any]]


def check_golden(model: Model) -> tuple[list[Row], Tally]:
    """Run every graph of a bundle on its golden clip and compare.

    Raises:
        BundleIntegrityError: `golden.npz` is missing or damaged.
    """
    golden = read_golden(model)
    bars = json.loads(str(golden["bars"]))[model.manifest.precision]
    tally = Tally()
    if "cosine" in bars:
        return compare_closely(model, golden, bars, tally), tally
    return compare_graphs(model, golden, "golden", tally), tally


def compare_closely(
    model: Model, expected: Arrays, bars: dict[str, float], tally: Tally
) -> list[Row]:
    """Compare every graph's outputs where rounding may fall otherwise on another machine."""
    lengths = expected["frame_lengths"]
    batch = {name: expected[name] for name in ("waveform", "lengths")}
    front = dict(batch)
    if "statistics" in model.manifest.graphs:
        front |= model.run("statistics", **batch)
    given: dict[str, Arrays] = {
        "encoder": batch,
        "tokenizer": batch,
        "frontend": front,
        "context": {"features": expected["features"], "frame_lengths": lengths},
        "quantizer": {"features": expected["features"]},
    }
    rows = []
    for graph in [name for name in given if name in model.manifest.graphs]:
        found = model.run(graph, **given[graph])
        case = f"{graph} golden"
        if "frame_lengths" in found:
            rows.append(compare_lengths(case, found["frame_lengths"], lengths))
        rows += [
            compare_frames(case, x, found[x], expected[x], lengths, bars["cosine"])
            for x in ("features", "context")
            if x in found
        ]
        if "codes" in found:
            valid = np.arange(found["codes"].shape[1]) < lengths[:, None]
            codes = np.where(valid[..., None], found["codes"], 0)
            row = compare_most_codes(case, codes, expected["codes"], lengths, bars["code_drift"])
            if "vectors" in found:
                same = ((codes == expected["codes"]).all(axis=2) & valid)[..., None]
                pair = (np.where(same, x, 0) for x in (found["vectors"], expected["vectors"]))
                rows.append(_exact(case, *pair))
            tally.compared += int(valid.sum()) * codes.shape[2]
            tally.wrong += int(row.worst) if np.isfinite(row.worst) else 0
            rows.append(row)
    return rows


def read_golden(model: Model) -> Arrays:
    """Read `golden.npz` of a bundle, checked against the manifest."""
    path = model.bundle.path(GOLDEN)
    try:
        # numpy leaves a file it opened itself open when the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleIntegrityError(f"{path}: damaged ({error!s:.80}); export again") from error


def compare_graphs(model: Model, expected: Arrays, case: str, tally: Tally) -> list[Row]:
    """Compare every graph's outputs with `expected`, which has the names of golden vectors."""
    batch = {name: expected[name] for name in ("waveform", "lengths")}
    rows = compare_encoder(model, batch, expected, case, tally)
    if "tokenizer" in model.manifest.graphs:
        rows += compare_tokenizer(model, batch, expected, case, tally)
    rows += compare_split(model, batch, expected, case)
    return rows


def compare_encoder(
    model: Model, batch: Arrays, expected: Arrays, case: str, tally: Tally
) -> list[Row]:
    """Compare `encoder`, and `quantizer` on the encoder's features."""
    case = f"encoder {case}"
    found = model.run("encoder", **batch)
    lengths = expected["frame_lengths"]
    rows = [
        compare_lengths(case, found["frame_lengths"], lengths),
        *(
            compare_values(case, x, found[x], expected[x], lengths, float(expected[f"{x}_std"]))
            for x in ("features", "context")
        ),
    ]
    if "quantizer" in model.manifest.graphs and all(row.ok for row in rows):
        rows += compare_quantizer(model, found["features"], expected, case, tally)
    return rows


def compare_tokenizer(
    model: Model, batch: Arrays, expected: Arrays, case: str, tally: Tally
) -> list[Row]:
    """Compare `tokenizer`."""
    case = f"tokenizer {case}"
    found = model.run("tokenizer", **batch)
    lengths = expected["frame_lengths"]
    return [
        compare_lengths(case, found["frame_lengths"], lengths),
        compare_codes(case, found["codes"], expected["codes"], expected["margins"], lengths, tally),
    ]


def compare_split(model: Model, batch: Arrays, expected: Arrays, case: str) -> list[Row]:
    """Compare `statistics` and `frontend` in a row, and `context` on the expected features."""
    lengths = expected["frame_lengths"]
    given = dict(batch)
    if "statistics" in model.manifest.graphs:
        given |= model.run("statistics", **batch)
    front = model.run("frontend", **given)
    context = model.run("context", features=expected["features"], frame_lengths=lengths)
    return [
        compare_lengths(f"frontend {case}", front["frame_lengths"], lengths),
        *(
            compare_values(
                f"{graph} {case}", x, found[x], expected[x], lengths, float(expected[f"{x}_std"])
            )
            for graph, x, found in (
                ("frontend", "features", front),
                ("context", "context", context),
            )
        ),
    ]


def compare_quantizer(
    model: Model, features: npt.NDArray[Any], expected: Arrays, case: str, tally: Tally
) -> list[Row]:
    """Compare `quantizer` on features (b, n, d): codes, and vectors, which must be their rows."""
    case = case.replace("encoder", "quantizer")
    lengths = expected["frame_lengths"]
    found = model.run("quantizer", features=features)
    valid = np.arange(features.shape[1]) < lengths[:, None]
    # The graph has no lengths: it gives padding codes too, which mean nothing.
    codes = np.where(valid[..., None], found["codes"], 0)
    same = ((codes == expected["codes"]).all(axis=2) & valid)[..., None]
    return [
        compare_codes(case, codes, expected["codes"], expected["margins"], lengths, tally),
        _exact(case, np.where(same, found["vectors"], 0), np.where(same, expected["vectors"], 0)),
    ]


def _exact(case: str, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Row:
    bad = np.argwhere((found != expected).any(axis=2))
    worst = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    first = (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None
    return Row(case, "vectors", worst, 0.0, first)
