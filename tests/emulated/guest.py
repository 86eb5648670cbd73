"""Runs on the emulated processor: python -m tests.emulated.guest BUNDLES OUTPUT [BUNDLE...].

Needs numpy and onnxruntime only. Writes the outputs of each bundle, whole and streamed, and of the
product of integers, as `.npz`.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

CLIP, PRODUCT = "clip.npy", "product.onnx"
SHIPPED = "tiny-int8"
BLOCKS = (3_000, 700, 4_301)
"""Samples of the pushed blocks, in turn."""


def main(bundles: Path, output: Path, names: list[str]) -> None:
    """Run all, and write their outputs."""
    import w2v_edge
    from w2v_edge.data import TINY_INT8

    clip = np.load(bundles / CLIP)
    found: dict[str, npt.NDArray[np.generic]] = {"machine": np.array(platform.machine())}
    for name in names:
        model = w2v_edge.load(TINY_INT8 if name == SHIPPED else bundles / name, threads=1)
        whole = model.encode(clip)
        found |= {f"{name}.{key}": getattr(whole, key) for key in ("features", "codes", "context")}
        stream = model.stream(statistics=model.statistics(clip), context=False)
        pieces = [stream.push(block) for block in _blocks(clip)]
        pieces.append(stream.flush())
        for key in ("features", "codes"):
            joined = np.concatenate([getattr(piece, key) for piece in pieces])
            found[f"{name}.streamed.{key}"] = joined
    found["product.x"], found["product.y"] = _product(bundles / PRODUCT)
    np.savez(output, **found)  # type: ignore[arg-type]


def _blocks(clip: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    ends = np.cumsum(np.resize(BLOCKS, 1 + len(clip) // min(BLOCKS)))
    return [block for block in np.split(clip, ends[ends < len(clip)]) if len(block)]


def _product(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Run a product of integers; its first row is the largest that there is."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(0).integers(0, 256, given.shape, dtype=np.uint8)
    x[0] = 255
    return x, session.run(None, {given.name: x})[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
