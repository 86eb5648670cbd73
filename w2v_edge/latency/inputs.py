"""Inputs of a case: real speech, or what the graphs before it make of real speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.latency.jobs import Job

Tensors = dict[str, npt.NDArray[Any]]


def waveform_inputs(excerpts: Sequence[npt.NDArray[np.float32]], batch: int) -> list[Tensors]:
    """Return the inputs of one batch after the other, of excerpts (samples,) that take turns."""
    count = max(1, len(excerpts) // batch)
    rows = [[excerpts[(i * batch + j) % len(excerpts)] for j in range(batch)] for i in range(count)]
    return [
        {
            "waveform": np.stack(batch_rows),
            "lengths": np.full(batch, len(batch_rows[0]), dtype=np.int64),
        }
        for batch_rows in rows
    ]


def write_inputs(path: Path, inputs: Sequence[Tensors]) -> None:
    """Keep inputs in a file, for another process."""
    arrays: dict[str, Any] = {
        f"{i}.{name}": x for i, batch in enumerate(inputs) for name, x in batch.items()
    }
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def read_inputs(path: Path) -> list[Tensors]:
    """Read what `write_inputs` wrote."""
    inputs: dict[int, Tensors] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split(".", 1)
            inputs.setdefault(int(number), {})[name] = arrays[key]
    return [inputs[i] for i in sorted(inputs)]


def work(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Make the inputs of a graph inside the model from those of the whole; the file is replaced."""
    import w2v_edge

    model = w2v_edge.load(job.bundle)
    path = Path(job.inputs)
    graph = model.manifest.graphs[job.case.graph]
    names = {tensor.name for tensor in graph.inputs}
    made = []
    for batch in read_inputs(path):
        tensors = dict(batch)
        if "context" in names:
            tensors |= model.run("encoder", **batch)
        else:
            if "statistics" in model.manifest.graphs:
                tensors |= model.run("statistics", **batch)
            if names & {"features", "frame_lengths"}:
                given = model.manifest.graphs["frontend"].inputs
                tensors |= model.run("frontend", **{x.name: tensors[x.name] for x in given})
        made.append({name: tensors[name] for name in names})
    write_inputs(path, made)
    return {}
