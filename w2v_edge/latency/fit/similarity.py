"""Similarity of the outputs of bundles of one checkpoint, on speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import w2v_edge
from w2v_edge.agreement import frame_cosines
from w2v_edge.audio import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.errors import InputError
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.measure.plan import NamedBundle
from w2v_edge.providers.bfloat16 import BF16
from w2v_edge.runtime.window import Window

EXACTNESS = ("fp32", "fp16", "bf16", "int8", "int4")
"""Precisions, the most exact one first."""

EXCERPT_S = 10.0
DECILE = 10.0

Outputs = npt.NDArray[np.float32] | npt.NDArray[np.int64]
Setting = tuple[str, tuple[float, ...]]
"""A bundle by its name, and its window in streams; empty for whole utterances."""


@dataclass(frozen=True)
class Similarity:
    """Similarity of the outputs of one bundle and window to the reference's.

    Attributes:
        value: from 0 to 1, or a cosine; 1 for the reference.
        reference: name of the bundle that it was compared with, run on whole utterances.
    """

    value: float
    reference: str


def measure_similarity(
    named: Sequence[NamedBundle],
    windows: Sequence[tuple[float, ...]],
    graph: str,
    speech: Speech,
    *,
    streaming: bool,
) -> dict[Setting, Similarity]:
    """Compare each bundle with the most exact one of the same layers.

    Args:
        named: bundles of one checkpoint.
        windows: of streams; a single empty one for the default, or for whole utterances.
        graph: `encoder` for the context, `tokenizer` for codes.
        speech: compared in excerpts of 10 s, at most.
        streaming: whether streams are compared.

    Raises:
        InputError: a bundle gives another number of frames than its reference.
    """
    longest = min(x.bundle.manifest.longest_context_seconds for x in named)
    excerpts = speech.excerpts(min(EXCERPT_S, longest))
    found: dict[Setting, Similarity] = {}
    for group in _by_layers(named).values():
        best = min(group, key=_exactness)
        expected = _whole(best, graph, excerpts)
        for one in group:
            for window in windows:
                outputs = (
                    _streamed(one, graph, excerpts, window)
                    if streaming
                    else (expected if one is best else _whole(one, graph, excerpts))
                )
                value = _compared(one.record.name, outputs, expected)
                found[one.record.name, window] = Similarity(round(value, 6), best.record.name)
    return found


def layers_of(manifest: Manifest) -> int:
    """Return the number of transformer layers that a bundle kept."""
    chosen = (manifest.selection or {}).get("layer")
    return int(chosen or manifest.config.get("context", {}).get("layers", 0))


def describe(graph: str) -> str:
    """Describe the figure."""
    if graph == "tokenizer":
        return "share of equal codes"
    return "cosine of the context, worst decile of frames"


def _by_layers(named: Sequence[NamedBundle]) -> Mapping[int, list[NamedBundle]]:
    groups: dict[int, list[NamedBundle]] = {}
    for one in named:
        groups.setdefault(layers_of(one.bundle.manifest), []).append(one)
    return groups


def _exactness(one: NamedBundle) -> int:
    """Return the rank of a bundle's precision; 0 is the most exact one."""
    precision = one.bundle.manifest.precision
    return EXACTNESS.index(precision) if precision in EXACTNESS else len(EXACTNESS)


def _load(one: NamedBundle) -> w2v_edge.Model:
    """Load a bundle; one in bf16 on OpenVINO, if it is here, since others compute it exactly."""
    if one.bundle.manifest.precision != BF16:
        return w2v_edge.load(one.bundle.folder)
    return w2v_edge.load(one.bundle.folder, provider="openvino", allow_fallback=True)


def _whole(one: NamedBundle, graph: str, excerpts: Sequence[Waveform]) -> list[Outputs]:
    """Return codes or context (frames, ...) of each excerpt."""
    model = _load(one)
    if graph == "tokenizer":
        return [model.tokenize(x) for x in excerpts]
    return [model.encode(x).context for x in excerpts]


def _streamed(
    one: NamedBundle, graph: str, excerpts: Sequence[Waveform], window: tuple[float, ...]
) -> list[Outputs]:
    """Return codes or context (frames, ...) of each excerpt as a stream of its own."""
    model = _load(one)
    running = "running" if "statistics" in model.manifest.graphs else None
    attention: Window | bool = Window(*window) if window else True
    made: list[Outputs] = []
    for excerpt in excerpts:
        with model.stream(
            statistics=running, context=attention if graph == "encoder" else False
        ) as stream:
            parts = [stream.push(excerpt), stream.flush()]
        pieces = [x.codes if graph == "tokenizer" else x.context for x in parts]
        made.append(np.concatenate([x for x in pieces if x is not None]))
    return made


def _compared(name: str, found: Sequence[Outputs], expected: Sequence[Outputs]) -> float:
    a, b = np.concatenate(list(found)), np.concatenate(list(expected))
    if a.shape != b.shape:
        raise InputError(
            f"{name}: found outputs of shape {a.shape}, expected {b.shape} as of the most exact "
            "bundle; give bundles with the same outputs"
        )
    if a.dtype == np.int64:
        return float(np.mean(a == b))
    return float(np.percentile(frame_cosines(a, b), DECILE))
