"""Golden vectors with WebGPU in headless Chromium, and the operators that fall back to the CPU.

    npm ci --ignore-scripts --prefix export/apps/web
    w2v-edge export w2v_edge/data/tiny/tiny.pt --target web -o tiny-web
    python -m bench.webgpu tiny-web -o bench/results/webgpu-tiny.json

The GPU is SwiftShader, software in Chromium: results are real, times say nothing of a GPU, so none
is recorded. `export/apps/web/webgpu.mjs` runs the graphs.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bench.peers import hardware
from w2v_edge.bundle import Bundle, Manifest
from w2v_edge.bundle.golden import check_golden

WEB = Path(__file__).parents[1] / "export/apps/web"
Array = npt.NDArray[Any]


class Browser:
    """Runs the graphs of a bundle in Chromium; a `w2v_edge.bundle.golden.GraphRunner`.

    Attributes:
        bundle: on disk.
        placement: of the graphs that were run, number of operators by provider and type.
    """

    def __init__(self, folder: Path) -> None:
        self.bundle = Bundle.open(folder)
        self.placement: dict[str, dict[str, dict[str, int]]] = {}
        command = ["node", str(WEB / "webgpu.mjs"), str(folder)]
        self._node = subprocess.Popen(  # noqa: S603 - our own file
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def precision(self) -> str:
        """The manifest's."""
        return self.manifest.precision

    @property
    def half(self) -> bool:
        """Whether WebGPU computes float32 graphs in float16: no."""
        return False

    def run(self, graph: str, **tensors: Array) -> dict[str, Array]:
        """Run one graph on tensors by name.

        Raises:
            RuntimeError: the browser ended, or onnxruntime refused the graph.
        """
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        inputs = {name: _packed(tensor) for name, tensor in tensors.items()}
        self._node.stdin.write(json.dumps({"graph": graph, "inputs": inputs}) + "\n")
        self._node.stdin.flush()
        answer = json.loads(self._node.stdout.readline() or '{"error": "Chromium did not start"}')
        if "error" in answer:
            raise RuntimeError(f"graph {graph!r}: {answer['error']}")
        self.placement[graph] = answer["placement"]
        return {name: _unpacked(value) for name, value in answer["outputs"].items()}

    def __enter__(self) -> Self:
        """Return the browser."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._node.communicate(timeout=60)


def main() -> None:
    """Compare, print, and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.webgpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="file for the result")
    given = parser.parse_args()
    with Browser(given.bundle) as browser:
        rows, codes = check_golden(browser)
    package = json.loads((WEB / "node_modules/onnxruntime-web/package.json").read_text())
    result = {
        "what": f"golden vectors of {browser.manifest.precision}, WebGPU on SwiftShader",
        "passed": all(row.ok for row in rows),
        "comparisons": [row.to_dict() for row in rows],
        "codes_compared": codes.compared,
        "codes_tied": codes.ties,
        "placement": browser.placement,
        "onnxruntime-web": package["version"],
        "hardware": hardware.describe(),
    }
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    print(text)
    if given.output:
        given.output.write_text(text)


def _packed(tensor: Array) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(tensor).tobytes()).decode()
    return {"type": str(tensor.dtype), "dims": list(tensor.shape), "data": data}


def _unpacked(value: dict[str, Any]) -> Array:
    flat: Array = np.frombuffer(base64.b64decode(value["data"]), value["type"])
    return flat.reshape(value["dims"])


if __name__ == "__main__":
    main()
