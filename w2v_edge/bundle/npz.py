"""Reads an untrusted `.npz`; reads and allocations are bounded by the size of the file."""

from __future__ import annotations

import math
import zipfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

MAX_MEMBERS = 64
MAX_BYTES = 2**28
"""Maximum size of all arrays; golden vectors have a few seconds of audio."""

KINDS = "biufU"
"""Allowed dtype kinds, numbers and text; objects would be pickles."""


def read_npz(stream: IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of an open `.npz`.

    Raises:
        ValueError: the archive is damaged, or an array has the wrong size or is not of numbers or
            text.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS or sum(x.file_size for x in members) > MAX_BYTES:
                raise ValueError("found more or larger arrays than expected")  # noqa: TRY301
            return {x.filename.removesuffix(".npy"): _read_member(archive, x) for x in members}
    except Exception as error:
        # Damaged archives raise all kinds of errors in zipfile, zlib, numpy and ast.
        what = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{what:.80}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(member) as stream:
        # zipfile reads no more bytes than the directory states.
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array of format {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        there = member.file_size - stream.tell()
        if dtype.kind not in KINDS or math.prod(shape) * dtype.itemsize != there:
            raise ValueError(f"{dtype!s:.40} of shape {shape!s:.40} in {there} bytes")
        array = np.frombuffer(stream.read(), dtype=dtype)
        return array.reshape(shape, order="F" if fortran else "C")
