"""Outputs of the same bundles on several kinds of processor: equal to the bit, or how far apart.

    make test-arm64
    python -m bench.processors .emulated

Reads the outputs that the tests on emulated processors leave: a second of audio, one thread.
Deviations are from this machine's own processor, in standard deviations of its output.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench.peers import hardware
from tests.emulated.processors import HOST, PROCESSORS, outputs_file

Outputs = dict[str, npt.NDArray[Any]]

KEYS = ("features", "codes", "context")
OUTPUT = Path(__file__).parent / "results/processors.json"


def main() -> None:
    """Compare, print a table, and write the results."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.processors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder of make test-arm64")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help="file for the results")
    given = parser.parse_args()
    outputs = {HOST: _read(outputs_file(given.folder, None))}
    outputs |= {one.name: _read(outputs_file(given.folder, one)) for one in PROCESSORS}
    names = dict.fromkeys(key.partition(".")[0] for key in outputs[HOST] if key.endswith("context"))
    found = {
        f"{bundle} {key}": compare({x: of[f"{bundle}.{key}"] for x, of in outputs.items()})
        for bundle in names
        for key in KEYS
    }
    for name, row in found.items():
        print(f"{name}: {'; '.join(', '.join(x) for x in row['equal_to_the_bit'])}")
        print(" ", ", ".join(f"{x} {value:.3g}" for x, value in row["deviation"].items()))
    described = {x.name: f"{x.machine}, {x.cpu}: {x.described}" for x in PROCESSORS}
    result = {
        "what": "outputs of 1 s of audio, threads=1; processors beside the host's are emulated",
        "host": hardware.describe(),
        "onnxruntime": onnxruntime.__version__,
        "processors": described,
        "outputs": found,
    }
    given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def compare(outputs: Outputs) -> dict[str, Any]:
    """Compare an output of all processors, by their names.

    Returns:
        `equal_to_the_bit`: lists of processors that give the same bits. `deviation`: each one's
        largest from the host's, in standard deviations; of codes, the fraction that differs.
    """
    groups: dict[bytes, list[str]] = {}
    for name, values in outputs.items():
        groups.setdefault(values.tobytes(), []).append(name)
    expected = outputs[HOST]
    deviation = {
        name: _deviation(values, expected) for name, values in outputs.items() if name != HOST
    }
    return {"equal_to_the_bit": list(groups.values()), "deviation": deviation}


def _deviation(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    if np.issubdtype(expected.dtype, np.integer):
        return float((found != expected).mean())
    return float(np.abs(found - expected).max() / expected.std())


def _read(path: Path) -> Outputs:
    if not path.is_file():
        raise SystemExit(f"{path}: no file; run make test-arm64 first")
    with np.load(path) as found:
        return dict(found)


if __name__ == "__main__":
    main()
