"""External data: weights go to one file a part, shared by all graphs that use them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

MIN_BYTES = 256
"""Smaller tensors stay in the graphs, where shapes and such are looked for."""

PAGE = 4096
"""Large tensors begin at pages, so that a runtime can map them."""

FILES = {
    "moments": "frontend.bin",
    "statistics": "frontend.bin",
    "frontend": "frontend.bin",
    "quantizer": "quantizer.bin",
    "context": "context.bin",
}
"""Data file by the prefix of an initializer's name."""


STORED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.UINT8)
"""Element types of weights; int64 is left to shapes."""


class DataWriter:
    """Moves the weights of graphs to data files; equal tensors of a file are written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[tuple[str, bytes], tuple[int, int]] = {}

    def externalise(self, model: ir.Model) -> tuple[str, ...]:
        """Move weights of `model`, and return the names of the data files that it needs."""
        files = set()
        for value in model.graph.initializers.values():
            tensor = value.const_value
            assert tensor is not None
            if tensor.nbytes < MIN_BYTES or tensor.dtype not in STORED:
                continue
            name = FILES[str(value.name).partition(".")[0]]
            value.const_value = self._place(name, str(value.name), tensor)
            files.add(name)
        return tuple(sorted(files))

    def _place(self, file: str, name: str, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        data = tensor.tobytes()
        key = (file, hashlib.sha256(data).digest())
        if key not in self._places:
            with (self.folder / file).open("ab") as stream:
                self._places[key] = (_write(stream, data), len(data))
        offset, length = self._places[key]
        return ir.ExternalTensor(
            file,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=name,
            base_dir=self.folder,
        )


def _write(stream: BinaryIO, data: bytes) -> int:
    """Append `data`, aligned, and return where it begins."""
    alignment = PAGE if len(data) >= PAGE else 64
    stream.write(bytes(-stream.tell() % alignment))
    offset = stream.tell()
    stream.write(data)
    return offset
