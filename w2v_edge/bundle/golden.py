"""Golden vectors: outputs for a generated clip, stored at export, to check a bundle without torch.

In float32 and bf16 they are PyTorch's outputs; with quantized weights, the bundle's own on the
exporting machine, once they are within the budgets against PyTorch.

`golden.npz` holds, for a padded batch of two (the second ends early, over garbage): the inputs
`waveform` and `lengths`; the expected `features`, `context`, `frame_lengths`, `codes`, `vectors`
and other outputs of the graphs; `context_lengths`, the valid context frames (equal to
`frame_lengths` unless the model has an adapter); `margins`, the distance of each code's
two best logits in standard deviations of all logits; `features_std`, `context_std` and the like,
how much they vary across frames; of PyTorch's, `features_rounding`, `context_rounding` and the
like, how far PyTorch's own float32 deviates from float64, at most and in the median frame; `bars`,
JSON text with the tolerances by precision. Programs in any language can reproduce it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from w2v_edge.agreement import (
    CodeAgreement,
    Deviation,
    compare_codes,
    compare_frames,
    compare_labels,
    compare_lengths,
    compare_most_codes,
    compare_values,
)
from w2v_edge.bundle.files import Bundle
from w2v_edge.bundle.manifest import GOLDEN, Manifest
from w2v_edge.bundle.npz import read_npz
from w2v_edge.errors import BundleIntegrityError, W2VEdgeError
from w2v_edge.files import open_regular

Arrays = dict[str, npt.NDArray[Any]]


class GraphRunner(Protocol):
    """Runs the graphs of a bundle; `w2v_edge.Model` is one."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        ...

    @property
    def bundle(self) -> Bundle:
        """The bundle on disk."""
        ...

    @property
    def precision(self) -> str:
        """The precision that its graphs are computed in."""
        ...

    @property
    def half(self) -> bool:
        """Whether its provider computes float32 graphs in float16."""
        ...

    def run(self, graph: str, **tensors: npt.NDArray[Any]) -> Arrays:
        """Run one graph on tensors by name."""
        ...


def check_golden(model: GraphRunner) -> tuple[list[Deviation], CodeAgreement]:
    """Run every graph of a bundle on its golden clip and compare, as its precision here allows.

    Raises:
        BundleIntegrityError: `golden.npz` is missing, damaged or not of this model.
    """
    golden = read_golden(model)
    agreement = CodeAgreement()
    try:
        tolerances = json.loads(str(golden["bars"]))[model.precision]
        if "cosine" in tolerances:
            return compare_closely(model, golden, tolerances, agreement), agreement
        return compare_graphs(model, golden, "golden", agreement), agreement
    except (LookupError, ValueError, TypeError, RecursionError, ArithmeticError) as error:
        if isinstance(error, W2VEdgeError):
            raise
        path = model.bundle.folder / GOLDEN
        what = " ".join(str(error).split())
        raise BundleIntegrityError(
            f"{path}: does not match the outputs of the graphs ({what:.80}); export again"
        ) from error


def compare_closely(
    model: GraphRunner, expected: Arrays, tolerances: dict[str, float], agreement: CodeAgreement
) -> list[Deviation]:
    """Compare every graph's outputs of quantized weights, which round differently by machine."""
    batch = {name: expected[name] for name in ("waveform", "lengths")}
    front = dict(batch)
    if "statistics" in model.manifest.graphs:
        front |= model.run("statistics", **batch)
    given: dict[str, Arrays] = {
        "encoder": batch,
        "tokenizer": batch,
        "frontend": front,
        "context": {x: expected[x] for x in ("features", "frame_lengths")},
    }
    source = model.manifest.quantizer_input
    if source is not None:
        given["quantizer"] = {source: expected[source]}
    rows = []
    for graph in [name for name in given if name in model.manifest.graphs]:
        found = model.run(graph, **given[graph])
        case = f"{graph} golden"
        rows += compare_all_lengths(model, graph, found, expected, case)
        rows += compare_outputs_closely(model, graph, found, expected, case, tolerances)
        if "codes" in found:
            rows += _compare_codes_closely(model, found, expected, case, tolerances, agreement)
    return rows


def compare_outputs_closely(
    model: GraphRunner,
    graph: str,
    found: Arrays,
    expected: Arrays,
    case: str,
    tolerances: Mapping[str, float],
) -> list[Deviation]:
    """Compare the float outputs of a graph by cosine similarity, and logits by the best label."""
    rows = []
    for name, lengths in outputs_of(model, graph).items():
        sides = as_frames(found[name], expected, name, lengths)
        meaning = _meaning(model.manifest, name)
        if meaning in {"one_of", "any_of"}:
            rows.append(compare_labels(case, name, *sides, tolerances["code_drift"]))
            continue
        if meaning == "values" and lengths is None:
            # A few values have no stable direction: those of all utterances are one vector.
            one, other, _ = sides
            sides = one.reshape(1, 1, -1), other.reshape(1, 1, -1), np.ones(1, dtype=np.int64)
        rows.append(compare_frames(case, name, *sides, tolerances["cosine"]))
    return rows


def _meaning(manifest: Manifest, name: str) -> str | None:
    """Return the meaning of an output that is logits; None for others."""
    if name == "logits":
        return manifest.logits_meaning or "one_of"
    head = manifest.heads.get(name.removeprefix("logits_")) if "_" in name else None
    return None if head is None else head.meaning


def _compare_codes_closely(
    model: GraphRunner,
    found: Arrays,
    expected: Arrays,
    case: str,
    tolerances: dict[str, float],
    agreement: CodeAgreement,
) -> list[Deviation]:
    lengths = expected[code_lengths(model)]
    valid = np.arange(found["codes"].shape[1]) < lengths[:, None]
    codes = np.where(valid[..., None], found["codes"], 0)
    row = compare_most_codes(case, codes, expected["codes"], lengths, tolerances["code_drift"])
    agreement.compared += int(valid.sum()) * codes.shape[2]
    agreement.wrong += int(row.worst) if np.isfinite(row.worst) else 0
    if "vectors" not in found:
        return [row]
    same = ((codes == expected["codes"]).all(axis=2) & valid)[..., None]
    pair = (np.where(same, x, 0) for x in (found["vectors"], expected["vectors"]))
    return [_exact(case, *pair, half=model.half), row]


def outputs_of(model: GraphRunner, graph: str) -> dict[str, str | None]:
    """Return the float outputs of a graph, and the tensor with each one's valid lengths.

    None for outputs of one vector per utterance.
    """
    context = model.manifest.context_outputs if graph in {"encoder", "context"} else {}
    return {**({} if graph not in {"encoder", "frontend"} else FEATURES), **context}


FEATURES: dict[str, str | None] = {"features": "frame_lengths"}


def code_lengths(model: GraphRunner) -> str:
    """Return the name of the tensor with the valid lengths of codes."""
    of_context = model.manifest.quantizer_input == "context"
    return "context_lengths" if of_context else "frame_lengths"


def compare_all_lengths(
    model: GraphRunner, graph: str, found: Arrays, expected: Arrays, case: str
) -> list[Deviation]:
    """Compare the lengths that a graph returns."""
    names: dict[str, str] = {x: x for x in ("frame_lengths", "context_lengths") if x in found}
    if graph == "tokenizer":
        names["frame_lengths"] = code_lengths(model)
    return [compare_lengths(case, x, found[x], expected[other]) for x, other in names.items()]


def as_frames(
    found: npt.NDArray[Any], expected: Arrays, name: str, lengths: str | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return found and expected as (b, n, d), and their lengths (b,).

    An output of one vector per utterance is returned as a single frame.
    """
    if lengths is not None:
        return found, expected[name], expected[lengths]
    ones = np.ones(len(found), dtype=np.int64)
    return found[:, np.newaxis], expected[name][:, np.newaxis], ones


def read_golden(model: GraphRunner) -> Arrays:
    """Read `golden.npz` of a bundle, after checking its hash."""
    path = model.bundle.path(GOLDEN)
    try:
        with open_regular(path) as stream:
            return read_npz(stream)
    except (OSError, ValueError) as error:
        raise BundleIntegrityError(f"{path}: damaged ({error!s:.80}); export again") from error


def compare_graphs(
    model: GraphRunner, expected: Arrays, case: str, agreement: CodeAgreement
) -> list[Deviation]:
    """Compare every graph's outputs with `expected`, which has the names of golden vectors."""
    batch = {name: expected[name] for name in ("waveform", "lengths")}
    rows = compare_encoder(model, batch, expected, case, agreement)
    if "tokenizer" in model.manifest.graphs:
        rows += compare_tokenizer(model, batch, expected, case, agreement)
    rows += compare_split(model, batch, expected, case)
    return rows


def compare_encoder(
    model: GraphRunner, batch: Arrays, expected: Arrays, case: str, agreement: CodeAgreement
) -> list[Deviation]:
    """Compare `encoder`, and `quantizer` on the encoder's output."""
    found = model.run("encoder", **batch)
    rows = _compare_outputs(model, "encoder", found, expected, case)
    source = model.manifest.quantizer_input
    if source is not None and all(row.ok for row in rows):
        rows += compare_quantizer(model, found[source], expected, case, agreement)
    return rows


def compare_tokenizer(
    model: GraphRunner, batch: Arrays, expected: Arrays, case: str, agreement: CodeAgreement
) -> list[Deviation]:
    """Compare `tokenizer`."""
    found = model.run("tokenizer", **batch)
    rows = compare_all_lengths(model, "tokenizer", found, expected, f"tokenizer {case}")
    lengths = expected[code_lengths(model)]
    case = f"tokenizer {case}"
    return [*rows, _compare_codes(case, found["codes"], expected, lengths, agreement)]


def compare_split(
    model: GraphRunner, batch: Arrays, expected: Arrays, case: str
) -> list[Deviation]:
    """Compare `frontend`, given the output of `statistics`, and `context` on expected features."""
    given = dict(batch)
    if "statistics" in model.manifest.graphs:
        given |= model.run("statistics", **batch)
    front = model.run("frontend", **given)
    context = model.run("context", **{x: expected[x] for x in ("features", "frame_lengths")})
    return [
        *_compare_outputs(model, "frontend", front, expected, case),
        *_compare_outputs(model, "context", context, expected, case),
    ]


def _compare_outputs(
    model: GraphRunner, graph: str, found: Arrays, expected: Arrays, case: str
) -> list[Deviation]:
    case = f"{graph} {case}"
    rows = compare_all_lengths(model, graph, found, expected, case)
    return rows + [
        compare_values(
            case,
            name,
            *as_frames(found[name], expected, name, lengths),
            float(expected[f"{name}_std"]),
            expected.get(f"{name}_rounding"),
        )
        for name, lengths in outputs_of(model, graph).items()
    ]


def compare_quantizer(
    model: GraphRunner,
    frames: npt.NDArray[Any],
    expected: Arrays,
    case: str,
    agreement: CodeAgreement,
) -> list[Deviation]:
    """Compare `quantizer` on frames (b, n, d): codes, and vectors, rows of the codebooks."""
    case = f"quantizer {case}"
    source = model.manifest.quantizer_input
    assert source is not None
    lengths = expected[code_lengths(model)]
    found = model.run("quantizer", **{source: frames})
    valid = np.arange(frames.shape[1]) < lengths[:, None]
    # The graph has no lengths, so that its codes at padding are arbitrary.
    codes = np.where(valid[..., None], found["codes"], 0)
    same = ((codes == expected["codes"]).all(axis=2) & valid)[..., None]
    return [
        _compare_codes(case, codes, expected, lengths, agreement),
        _exact(
            case,
            np.where(same, found["vectors"], 0),
            np.where(same, expected["vectors"], 0),
            half=model.half,
        ),
    ]


def _compare_codes(
    case: str,
    found: npt.NDArray[Any],
    expected: Arrays,
    lengths: npt.NDArray[np.int64],
    agreement: CodeAgreement,
) -> Deviation:
    return compare_codes(
        case,
        found,
        expected["codes"],
        expected["margins"],
        lengths,
        agreement,
        expected.get("codes_rounding"),
        expected.get("scores"),
    )


def _exact(
    case: str, found: npt.NDArray[Any], expected: npt.NDArray[Any], *, half: bool
) -> Deviation:
    """Compare vectors (b, n, d): exact, or on a provider with float16 what that makes of them."""
    differing = found != expected
    if half:
        rounded = expected.astype(np.float16).astype(np.float32)
        differing &= ~np.isclose(found, rounded, rtol=1e-6, atol=0)
    bad = np.argwhere(differing.any(axis=2))
    off = np.where(differing, found.astype(np.float64) - expected, 0)
    worst = float(np.abs(off).max(initial=0.0))
    first = (int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None
    return Deviation(case, "vectors", worst, 0.0, first)
