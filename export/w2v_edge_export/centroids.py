"""k-means centroids, read from the files of other projects."""

from __future__ import annotations

import math
import os
import struct
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle.npz import read_npz
from w2v_edge.checkpoints.tensors import read_tensors
from w2v_edge.errors import InputError
from w2v_edge.files import open_regular

NUMPY, ZIP, FAISS = b"\x93NUMPY", b"PK", b"I"
"""First bytes of files; every faiss index begins with the name of its kind, such as `IxF2`."""

NAMES = ("cluster_centers_", "cluster_centers", "centroids", "centers")
"""Names of the array, where a file has several."""

FLAT_L2, FLAT_PRODUCT = b"IxF2", b"IxFI"
FLAT_HEADER = struct.Struct("<iqqq?i")
"""Of faiss: dimension, number of vectors, two unused numbers, is_trained, metric."""

AS_NPY = (
    "save the centroids with numpy.save, such as cluster_centers_ of scikit-learn's k-means: "
    'numpy.save("centroids.npy", joblib.load("km.bin").cluster_centers_)'
)
OF_AN_INDEX = (
    'numpy.save("centroids.npy", index.reconstruct_n(0, index.ntotal)); of an OPQ and IVF index '
    "as mHuBERT-147's, ivf.quantizer.reconstruct_n(0, ivf.nlist) @ "
    "faiss.vector_to_array(opq.A).reshape(opq.d_out, opq.d_in), with ivf = "
    "faiss.extract_index_ivf(index), opq = faiss.downcast_VectorTransform(index.chain.at(0))"
)

BAD_HEADER = (
    *(ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError),
    *(MemoryError, RecursionError, OverflowError, LookupError),
)
"""Errors of NumPy on an invalid header, which it parses as a Python expression."""


def read_centroids(path: Path) -> npt.NDArray[np.float32]:
    """Read centroids (entries, dim).

    Read are `.npy`; `.npz`, `.safetensors` and torch files of one array, or with an array of one of
    the `NAMES`; and faiss's `IndexFlatL2`. Pickles, joblib's among them, are not run.

    Raises:
        InputError: a file that cannot be read, a pickle, another faiss index, or anything but a
            finite 2-D array.
        CheckpointError: a damaged torch or safetensors file.
    """
    try:
        with open_regular(path) as stream:
            found = _read(path, stream)
    except OSError as error:
        raise InputError(f"{path}: expected centroids, found no file to read") from error
    table = found.ndim == 2 and np.issubdtype(found.dtype, np.floating)  # noqa: PLR2004
    if not table or len(found) < 2:  # noqa: PLR2004
        raise InputError(
            f"{path}: expected floats of shape (centroids, width), found {found.dtype} of shape "
            f"{found.shape}"
        )
    with np.errstate(over="ignore"):
        centroids = found.astype(np.float32)
    if not np.isfinite(centroids).all():
        raise InputError(f"{path}: holds NaN, infinity or numbers beyond float32")
    return centroids


def _read(path: Path, stream: IO[bytes]) -> npt.NDArray[Any]:
    start = stream.read(len(NUMPY))
    stream.seek(0)
    if path.suffix == ".safetensors" or (start.startswith(ZIP) and path.suffix != ".npz"):
        return _only(path, {name: x.numpy() for name, x in read_tensors(path).items()})
    if start.startswith(FAISS):
        return _read_index(path, stream)
    try:
        if start.startswith(ZIP):
            arrays = read_npz(stream)
        else:
            _check_size(stream)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except BAD_HEADER as error:
        raise InputError(
            f"{path}: expected a .npy file of numbers ({error!s:.60}); {AS_NPY}"
        ) from error
    return _only(path, arrays)


def _only(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the only array, or the one that has a known name."""
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    named = [arrays[name] for name in NAMES if name in arrays]
    if len(named) != 1:
        raise InputError(
            f"{path}: expected one array, or one called {NAMES[0]}, found "
            f"{', '.join(sorted(arrays))[:120] or 'none'}"
        )
    return named[0]


def _check_size(stream: IO[bytes]) -> None:
    """Raise `ValueError` if a header claims more bytes than follow, before memory is allocated."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = readers[version](stream)
    claimed = math.prod(shape) * dtype.itemsize
    held = os.fstat(stream.fileno()).st_size - stream.tell()
    if min(shape, default=0) < 0 or (claimed > held and not dtype.hasobject):
        raise ValueError(f"its header claims {claimed} bytes, {held} follow")
    stream.seek(0)


def _read_index(path: Path, stream: IO[bytes]) -> npt.NDArray[np.float32]:
    """Read the vectors of a flat index, as faiss's `write_index` writes it."""
    kind = stream.read(4)
    if kind == FLAT_PRODUCT:
        raise InputError(
            f"{path}: found a faiss index by inner product, expected one by Euclidean distance; "
            "they agree for centroids of unit length: save those, "
            'numpy.save("centroids.npy", index.reconstruct_n(0, index.ntotal))'
        )
    if kind != FLAT_L2:
        raise InputError(
            f"{path}: found a faiss index of kind {kind.decode('latin-1')!r}, expected "
            f"{FLAT_L2.decode()!r}, a flat one; save its centroids: {OF_AN_INDEX}"
        )
    header = stream.read(FLAT_HEADER.size)
    size = stream.read(8)
    held = os.fstat(stream.fileno()).st_size - stream.tell()
    if len(header) < FLAT_HEADER.size or len(size) < len(b"uint64le"):
        raise InputError(f"{path}: a faiss index that ends in its header; copy the file again")
    width, count, *_ = FLAT_HEADER.unpack(header)
    (floats,) = struct.unpack("<Q", size)
    if width < 1 or count < 0 or floats != width * count or 4 * floats != held:
        raise InputError(
            f"{path}: its header claims {count} vectors {width} wide, {held} bytes follow; copy "
            "the file again"
        )
    values = np.frombuffer(stream.read(held), dtype="<f4")
    if len(values) != floats:
        raise InputError(f"{path}: the file became shorter while it was read")
    return values.reshape(count, width)
