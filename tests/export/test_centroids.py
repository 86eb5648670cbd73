"""Files of centroids."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import save_file

from w2v_edge.errors import InputError, W2VEdgeError
from w2v_edge_export.centroids import read_centroids

Floats = npt.NDArray[np.float32]

VALUES = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)


def faiss_index(
    kind: bytes = b"IxF2",
    width: int = 5,
    count: int = 7,
    floats: int | None = None,
    metric: int = 1,
    values: Floats = VALUES,
) -> bytes:
    """Return a flat index as faiss's write_index lays it out."""
    header = struct.pack("<iqqq?i", width, count, 1 << 20, 1 << 20, True, metric)
    size = struct.pack("<Q", width * count if floats is None else floats)
    return kind + header + size + values.tobytes()


def _named(name: str) -> dict[str, Any]:
    return {"inertia": VALUES[:1, 0], name: VALUES}


SAVE: dict[str, Callable[[Path], object]] = {
    "centroids.npy": lambda path: np.save(path, VALUES),
    "double.npy": lambda path: np.save(path, VALUES.astype(np.float64)),
    "one.npz": lambda path: np.savez(path, VALUES),
    "named.npz": lambda path: np.savez_compressed(path, **_named("cluster_centers_")),
    "one.safetensors": lambda path: save_file({"weight": VALUES}, path),
    "named.safetensors": lambda path: save_file(_named("centroids"), path),
    "one.pt": lambda path: torch.save({"centers": torch.from_numpy(VALUES)}, path),
    "flat.index": lambda path: path.write_bytes(faiss_index()),
}


@pytest.mark.parametrize("name", SAVE)
def test_what_is_read(name: str, tmp_path: Path) -> None:
    """Every kind of file gives the same centroids."""
    path = tmp_path / name
    SAVE[name](path)
    found = read_centroids(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize("name", SAVE)
def test_damage(name: str, tmp_path: Path) -> None:
    """A file that is cut off, of no content, or absent is refused in one line."""
    path = tmp_path / name
    SAVE[name](path)
    content = path.read_bytes()
    for damaged in (content[:-9], content[:30], content[:5], b"", b"<html>"):
        path.write_bytes(damaged)
        with pytest.raises(W2VEdgeError) as caught:
            read_centroids(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match="no file to read"):
        read_centroids(path)


BAD: dict[str, tuple[bytes, str]] = {
    "inner product": (faiss_index(b"IxFI", metric=0), "by inner product"),
    "OPQ and IVF": (faiss_index(b"IxPT"), "faiss.extract_index_ivf"),
    "a claim": (faiss_index(count=1 << 40, floats=5 << 40), "bytes follow"),
    "another claim": (faiss_index(count=1 << 40), "bytes follow"),
    "below zero": (faiss_index(width=-5, count=-7), "bytes follow"),
    "no vectors": (faiss_index(count=0, values=VALUES[:0]), "expected floats of shape"),
    "NaN": (faiss_index(values=VALUES * np.float32(np.nan)), "NaN"),
    "joblib": (pickle.dumps(VALUES), "joblib.load"),
    "compressed joblib": (b"\x78\x9c" + bytes(40), "joblib.load"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    """Other indices, pickles and false claims: with the way out, in one line."""
    content, message = BAD[case]
    path = tmp_path / "km.bin"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_centroids(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_arrays(tmp_path: Path) -> None:
    """Of several arrays one has to have a known name."""
    path = tmp_path / "several.npz"
    for names in (("a", "b"), ("centers", "centroids")):
        several: dict[str, Any] = dict.fromkeys(names, VALUES)
        np.savez(path, **several)
        with pytest.raises(InputError, match="expected one array, or one called"):
            read_centroids(path)


def test_advice_for_an_index_is_right() -> None:
    """Of a rotation to fewer dimensions, centroids mapped back have the same nearest ones."""
    generator = np.random.default_rng(1)
    rotation = np.linalg.qr(generator.standard_normal((24, 8)))[0].T
    frames, centers = generator.standard_normal((400, 24)), generator.standard_normal((9, 8))

    def nearest(x: npt.NDArray[np.float64], to: npt.NDArray[np.float64]) -> list[int]:
        found: list[int] = np.square(x[:, None] - to).sum(axis=2).argmin(axis=1).tolist()
        return found

    assert nearest(frames, centers @ rotation) == nearest(frames @ rotation.T, centers)
